import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import uvloop

from eventrouter import serve as module
from eventrouter.errors import StartError
from eventrouter.serve import bind, run, serve


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body that it was sent, `/slow` after a while."""
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if scope["path"] == "/slow":
        await asyncio.sleep(0.5)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def serving(app: Any = hello, **more: Any) -> AsyncIterator[tuple[str, asyncio.Event]]:
    stop = asyncio.Event()
    url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(app, "127.0.0.1", 0, stop=stop, on_ready=url.set_result, **more))
    try:
        yield await url, stop
    finally:
        stop.set()
        await task


def address(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


async def exchange(url: str, data: bytes, seconds: float = 5) -> bytes:
    """All that the server says to `data` until it closes the connection; nothing when it does not read to the end."""
    reader, writer = await asyncio.open_connection(*address(url))
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), seconds)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_requests_are_answered_once_it_is_ready() -> None:
    async with (
        serving() as (url, _),
        aiohttp.ClientSession() as session,
        session.post(url, data=b"x" * 300_000) as response,
    ):
        assert await response.read() == b"x" * 300_000
        assert "server" not in response.headers


async def test_a_stop_ends_the_requests_in_progress_first() -> None:
    async with serving() as (url, stop), aiohttp.ClientSession() as session:
        request = asyncio.create_task(session.post(f"{url}/slow", data=b"late"))
        await asyncio.sleep(0.2)
        stop.set()
        async with await request as response:
            assert await response.read() == b"late"
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address(url))


GET = b"GET / HTTP/1.1\r\n\r\n"


def parse(answer: bytes) -> tuple[int, dict[bytes, bytes], Any]:
    """Status, headers and JSON of an answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    return int(first.split()[1]), dict(line.split(b": ", 1) for line in lines), json.loads(body)


@pytest.mark.parametrize("more", [b"", b"Content-Length: 300000\r\nOrigin: https://shop.example\r\n"])
async def test_connections_beyond_the_limit_are_told_to_come_again(more: bytes) -> None:
    refused: list[str] = []
    async with serving(connections=2, on_refused=refused.append) as (url, _):
        waiting = [await asyncio.open_connection(*address(url)) for _ in range(2)]
        body = b"x" * 300_000 if more else b""
        status, headers, told = parse(await exchange(url, b"POST / HTTP/1.1\r\n" + more + b"\r\n" + body))
        assert (status, told["code"], told["success"]) == (503, "too_many_connections", False)
        assert (headers[b"retry-after"], headers[b"connection"]) == (b"1", b"close")
        assert headers.get(b"access-control-allow-origin") == (b"https://shop.example" if more else None)
        assert refused == ["too_many_connections"]
        for reader, writer in waiting:
            writer.write(GET)
            assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
            writer.close()


async def test_a_flood_of_connections_is_closed() -> None:
    refused: list[str] = []
    async with serving(connections=2, on_refused=refused.append) as (url, _):
        waiting = [await asyncio.open_connection(*address(url)) for _ in range(4)]
        assert await exchange(url, b"") == b""
        assert refused == ["too_many_connections"]
        for _, writer in waiting:
            writer.close()


async def test_near_the_limit_connections_end_with_their_answer() -> None:
    async with serving(connections=4) as (url, _):
        kept = [await asyncio.open_connection(*address(url)) for _ in range(2)]
        for reader, writer in kept:
            writer.write(GET)
            assert b"connection: close" not in await reader.readuntil(b"\r\n\r\n")
        assert b"connection: close" in await exchange(url, GET)
        for _, writer in kept:
            writer.close()


async def test_near_the_limit_who_says_nothing_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.2)
    silent = [b"", GET, b"GET / HTTP/1.1\r\nX: y", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx"]
    async with serving(connections=5) as (url, _):
        waiting = []
        for data in silent:
            reader, writer = await asyncio.open_connection(*address(url))
            writer.write(data)
            waiting.append((reader, writer))
        late_reader, late = await asyncio.open_connection(*address(url))
        late.write(b"GET /slow HTTP/1.1\r\n\r\n")
        await asyncio.sleep(0.3)
        assert (await exchange(url, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        for reader, writer in waiting:
            await asyncio.wait_for(reader.read(), 1)
            writer.close()
        assert (await late_reader.readline()) == b"HTTP/1.1 200 OK\r\n"
        late.close()


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: \x00\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_a_bad_request(data: bytes) -> None:
    refused: list[str] = []
    async with serving(on_refused=refused.append) as (url, _):
        status, headers, told = parse(await exchange(url, data))
    assert (status, headers[b"content-type"], told["code"]) == (400, b"application/json", "invalid_http")
    assert refused == ["invalid_http"]


@pytest.mark.parametrize("head", [b"X: " + b"x" * 500_000, b"X: y\r\n" * 100_000])
async def test_a_request_with_an_endless_head_is_cut_off(head: bytes) -> None:
    refused: list[str] = []
    async with serving(on_refused=refused.append) as (url, _):
        answer = await exchange(url, b"GET / HTTP/1.1\r\n" + head)
    assert not answer or (parse(answer)[0], parse(answer)[2]["code"]) == (431, "head_too_large")
    assert refused == ["head_too_large"]


@pytest.mark.parametrize(
    ("data", "answers", "codes"),
    [
        (b"", 0, []),
        (GET, 1, []),
        (b"GET / HTTP/1.1\r\nX: y", 0, ["head_timeout"]),
        (b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n", 1, ["head_timeout"]),
    ],
)
async def test_a_request_with_a_slow_head_is_cut_off(
    data: bytes, answers: int, codes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEADER_SECONDS", 0.3)
    monkeypatch.setattr(module, "KEEP_ALIVE_SECONDS", 1)
    refused: list[str] = []
    async with serving(on_refused=refused.append) as (url, _):
        start = time.monotonic()
        answer = await exchange(url, data)
        assert (answer.count(b"200 OK"), answer.count(b" 408 "), time.monotonic() - start < 2) == (
            answers,
            len(codes),
            True,
        )
    assert refused == codes


async def test_a_connection_serves_many_requests_with_large_bodies() -> None:
    one = b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000
    async with serving() as (url, _):
        answer = await exchange(url, one * 5 + b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert answer.count(b"200 OK") == 6


def test_a_port_in_use_is_named() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError) as caught:
            bind("127.0.0.1", port)
    assert (f"port {port} of 127.0.0.1 is in use", True) == (str(caught.value), "--port" in caught.value.hint)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "x" * 300])
def test_a_host_that_is_not_ours_is_named(host: str) -> None:
    with pytest.raises(StartError) as caught:
        bind(host, 0)
    assert host in str(caught.value)
    assert caught.value.hint


def test_a_freed_port_can_be_taken_again_at_once() -> None:
    with bind("localhost", 0) as first:
        port = first.getsockname()[1]
        assert first.family == socket.AF_INET
    bind("localhost", port).close()


def test_run_has_a_fast_loop() -> None:
    async def loop() -> Any:
        return asyncio.get_running_loop()

    assert isinstance(run(loop()), uvloop.Loop)


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from test_serve import hello
from eventrouter.serve import run, serve
run(serve(hello, "127.0.0.1", 0, on_ready=lambda url: print(url, flush=True)))
print("ended", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_requests_in_progress_and_the_process_goes_on(number: signal.Signals) -> None:
    here = os.path.dirname(__file__)  # noqa: PTH120
    command = [sys.executable, "-c", PROGRAM, here]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        url = next(line for line in lines if line.startswith("http")).strip()
        async with aiohttp.ClientSession() as session:
            request = asyncio.create_task(session.post(f"{url}/slow", data=b"late"))
            await asyncio.sleep(0.2)
            process.send_signal(number)
            async with await request as response:
                assert await response.read() == b"late"
        assert [line for line in lines if line == "ended\n"] == ["ended\n"]
        assert process.wait(10) == 0
