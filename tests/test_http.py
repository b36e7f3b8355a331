"""The HTTP client: what it refuses, how errors become Retry and Reject, what it keeps of an answer."""

import asyncio
import socket
import sys
import time
from email.utils import formatdate

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from eventrouter.errors import Reject, Retry
from eventrouter.http import USER_AGENT, HttpClient, is_public, retry_after, to_json
from eventrouter.http import Response as Answer


@pytest.fixture
async def client():
    client = HttpClient(timeout=5, allow_private=True)
    yield client
    await client.close()


@pytest.fixture
async def guarded():
    client = HttpClient(timeout=5)
    yield client
    await client.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


REFUSED = [
    "127.0.0.1",
    "127.8.9.10",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.192",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.1.2.3",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", REFUSED)
async def test_an_address_that_is_not_public_is_refused_with_a_hint(guarded, address):
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(Reject) as caught:
        await guarded.post(f"http://{host}:8080/hook?token=t0p", json={})
    assert "allow_private: true" in caught.value.reason
    assert ":8080 is a private or local address" in caught.value.reason
    assert "t0p" not in caught.value.reason


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::"])
def test_a_public_address_is_public(address):
    assert is_public(address)


async def test_a_name_that_resolves_to_a_private_address_is_refused(guarded, httpserver: HTTPServer):
    with pytest.raises(Reject, match=r"localhost:\d+ is a private or local address"):
        await guarded.get(f"http://localhost:{httpserver.port}/")
    assert httpserver.log == []


async def test_a_name_that_resolves_differently_the_second_time_does_not_get_through(
    guarded, httpserver: HTTPServer, monkeypatch
):
    answers = ["192.0.2.1", "127.0.0.1", "127.0.0.1"]

    def resolve(host, port, *args, **kwargs):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0), port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    for _ in range(2):
        with pytest.raises(Reject):
            await guarded.get(f"http://rebind.example:{httpserver.port}/")
    assert httpserver.log == []


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "127.0.0.1.", "localhost."])
async def test_other_spellings_of_loopback_do_not_get_through(guarded, httpserver: HTTPServer, host):
    with pytest.raises((Reject, Retry)):
        await guarded.get(f"http://{host}:{httpserver.port}/")
    assert httpserver.log == []


async def test_a_redirect_is_not_followed(client, httpserver: HTTPServer):
    httpserver.expect_request("/a").respond_with_data("", status=302, headers={"Location": httpserver.url_for("/b")})
    answer = await client.get(httpserver.url_for("/a"))
    assert (answer.status, len(httpserver.log)) == (302, 1)


@pytest.mark.parametrize(
    "url", ["ftp://example.com/", "file:///etc/passwd", "example.com", "", "http://", "http://[::1", "http://a:99999/"]
)
async def test_an_address_that_is_not_http_is_refused(client, url):
    with pytest.raises(Reject, match="address"):
        await client.get(url)


async def test_json_is_exact_and_typed(client, httpserver: HTTPServer):
    seen: list[Request] = []

    def handle(request: Request) -> Response:
        seen.append(request)
        return Response(request.get_data(), content_type="application/json")

    httpserver.expect_request("/").respond_with_handler(handle)
    value = {"id": 2**80, "name": "Zoë", "none": None}
    answer = await client.post(httpserver.url_for("/"), json=value, headers={"X-Key": "k"})
    assert answer.json() == value
    assert seen[0].headers["Content-Type"] == "application/json"
    assert seen[0].headers["User-Agent"] == USER_AGENT
    assert seen[0].headers["X-Key"] == "k"


async def test_null_is_a_json_body_too(client, httpserver: HTTPServer):
    httpserver.expect_request("/", method="PUT", data="null").respond_with_data("ok")
    assert (await client.put(httpserver.url_for("/"), json=None)).text == "ok"


async def test_what_is_not_json_is_rejected_before_anything_is_sent(client, httpserver: HTTPServer):
    for value in (object(), {"a": "\ud800"}):
        with pytest.raises(Reject, match="cannot be written as JSON"):
            await client.post(httpserver.url_for("/"), json=value)
    assert httpserver.log == []


async def test_headers_of_the_answer_take_any_case(client, httpserver: HTTPServer):
    httpserver.expect_request("/").respond_with_data("x", headers={"X-Request-Id": "7"})
    assert (await client.get(httpserver.url_for("/"))).headers["x-request-id"] == "7"


async def test_a_long_answer_is_cut(client, httpserver: HTTPServer):
    httpserver.expect_request("/").respond_with_data(b"x" * 300_000)
    answer = await client.get(httpserver.url_for("/"))
    assert (len(answer.body), answer.cut) == (64 * 1024, True)
    answer = await client.get(httpserver.url_for("/"), max_body=400_000)
    assert (len(answer.body), answer.cut) == (300_000, False)


async def test_an_answer_that_is_not_json_is_a_retry_with_the_answer():
    with pytest.raises(Retry, match="HTTP 200: the answer is not JSON") as caught:
        Answer(200, {}, b"<html>").json()
    assert (caught.value.status, caught.value.response) == (200, "<html>")


async def test_a_refused_connection_is_a_retry_for_everyone_that_names_no_secret(client):
    port = free_port()
    with pytest.raises(Retry) as caught:
        await client.post(f"http://user:pass@127.0.0.1:{port}/path?key=secret", data=b"", headers={"X-Key": "x"})
    assert caught.value.everyone
    assert caught.value.reason == f"cannot connect to 127.0.0.1:{port}: Connection refused"


async def test_a_name_that_does_not_resolve_is_a_retry_for_everyone(client, monkeypatch):
    def resolve(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(Retry) as caught:
        await client.get("https://nowhere.example/x?key=secret")
    assert (caught.value.everyone, caught.value.reason) == (True, "cannot resolve the name of nowhere.example:443")


SLOW = """
import asyncio, socket, threading, time
from eventrouter.errors import Retry
from eventrouter.http import HttpClient

socket.getaddrinfo = lambda *args, **kwargs: time.sleep(60)

async def main():
    client = HttpClient(timeout=0.1)
    for number in range(5):
        try:
            await client.get(f"http://slow-{number}.example/")
        except Retry as error:
            print(error.reason)
    print(sum(thread.name.startswith("eventrouter-dns") for thread in threading.enumerate()))
    %s

asyncio.run(main())
"""


@pytest.mark.parametrize("end", ["await client.close()", "pass"])
async def test_a_slow_name_server_delays_no_exit_and_takes_two_threads_at_most(end):
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", "-c", SLOW % end, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert (0, "2") == (process.returncode, output.decode().split("\n")[-2])
    assert output.count(b"slow-") == 5
    assert time.monotonic() - began < 30


async def test_who_waits_for_a_name_when_the_client_is_closed_is_told(client, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: time.sleep(0.5) or [])
    request = asyncio.create_task(client.get("http://slow.example/"))
    await asyncio.sleep(0.1)
    await client.close()
    with pytest.raises(Retry, match=r"slow\.example:80 ended: the client was closed"):
        await request


async def test_a_late_answer_is_a_retry(client, httpserver: HTTPServer):
    def handle(request: Request) -> Response:
        time.sleep(0.5)
        return Response("late")

    httpserver.expect_request("/").respond_with_handler(handle)
    with pytest.raises(Retry, match=r"no answer from localhost:\d+ within 0.1 s") as caught:
        await client.get(httpserver.url_for("/"), timeout=0.1)
    assert not caught.value.everyone


async def test_plain_http_where_tls_is_expected_is_a_retry(client, httpserver: HTTPServer):
    with pytest.raises(Retry, match=r"no secure connection to localhost:\d+"):
        await client.get(f"https://localhost:{httpserver.port}/")


async def test_a_header_that_would_split_the_request_is_rejected_and_not_shown(client, httpserver: HTTPServer):
    with pytest.raises(Reject) as caught:
        await client.get(httpserver.url_for("/"), headers={"X-Key": "secret\r\nX-Other: 1"})
    assert "secret" not in caught.value.reason
    assert httpserver.log == []


async def scripted(*answers: bytes | None):
    """A server that answers one request after another on each connection; None: it hangs up instead."""
    got: list[bytes] = []
    script = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                got.append(body)
                answer = script.pop(0)
                if answer is None:
                    break
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionResetError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", got


async def test_a_server_that_hangs_up_between_requests_neither_loses_nor_doubles_anything(client):
    server, url, got = await scripted(b"a", None, b"b")
    assert (await client.post(url, data=b"1")).text == "a"
    with pytest.raises(Retry, match=r"the connection to 127\.0\.0\.1:"):
        await client.post(url, data=b"2")
    assert got == [b"1", b"2"]
    assert (await client.post(url, data=b"2")).text == "b"
    assert got == [b"1", b"2", b"2"]
    server.close()


async def test_connections_are_reused(client):
    server, url, _ = await scripted(*[b"ok"] * 5)
    for _ in range(5):
        await client.post(url, data=b"x")
    connections = {id(connection) for pool in client._session.connector._conns.values() for connection in pool}
    assert len(connections) == 1
    server.close()


async def test_something_that_does_not_speak_http_is_a_retry(client):
    async def serve(reader, writer):
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    with pytest.raises(Retry, match="broke"):
        await client.get(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    server.close()


async def test_cookies_are_not_kept(client, httpserver: HTTPServer):
    seen: list[str | None] = []

    def handle(request: Request) -> Response:
        seen.append(request.headers.get("Cookie"))
        return Response("ok", headers={"Set-Cookie": "session=1"})

    httpserver.expect_request("/").respond_with_handler(handle)
    for _ in range(2):
        await client.get(httpserver.url_for("/"))
    assert seen == [None, None]


async def test_a_proxy_of_the_environment_is_not_used(client, httpserver: HTTPServer, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    httpserver.expect_request("/").respond_with_data("direct")
    assert (await client.get(httpserver.url_for("/"))).text == "direct"


async def test_a_closed_client_can_be_used_again(client, httpserver: HTTPServer):
    httpserver.expect_request("/").respond_with_data("ok")
    await client.get(httpserver.url_for("/"))
    await client.close()
    assert (await client.get(httpserver.url_for("/"))).text == "ok"


SECONDS = {
    "7": 7.0,
    "0": 0.0,
    "-5": 0.0,
    "1.5": 1.5,
    "999999999": 86_400.0,
    "inf": 86_400.0,
    "": None,
    "nan": None,
    "soon": None,
    "Wed, 21 Oct 2015 07:28:00 GMT": 0.0,
    "Wed, 99 Oct 2015": None,
}


@pytest.mark.parametrize("value", SECONDS)
def test_retry_after_is_bounded_seconds(value):
    assert retry_after({"retry-AFTER": value}) == SECONDS[value]


def test_retry_after_may_be_a_date():
    assert retry_after({"Retry-After": formatdate(time.time() + 60, usegmt=True)}) == pytest.approx(60, abs=2)


def test_no_retry_after_is_none():
    assert retry_after({}) is None


def test_integers_beyond_64_bits_stay_exact():
    assert to_json({"n": 2**100}) == b'{"n":1267650600228229401496703205376}'
