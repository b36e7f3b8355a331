"""A port that can't be listened on is told with advice; a server that answers is seen."""

from __future__ import annotations

import asyncio
import socket

import pytest

from eventrouter.errors import StartError
from eventrouter.ports import bind, is_answering


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_bound_port_takes_connections_before_anyone_serves_them():
    with bind("127.0.0.1", free_port()) as listener, socket.create_connection(listener.getsockname(), timeout=5):
        pass


def test_a_port_in_use_is_told(taken):
    with pytest.raises(StartError, match=rf"port {taken} of 127.0.0.1 is in use") as caught:
        bind("127.0.0.1", taken)
    assert "--port" in caught.value.hint


def test_an_address_of_another_machine_is_told():
    with pytest.raises(StartError, match=r"192\.0\.2\.1 is not an address of this machine"):
        bind("192.0.2.1", 8000)


def test_a_name_that_is_none_is_told():
    with pytest.raises(StartError, match="no such host is not an address of this machine"):
        bind("no such host", 8000)


@pytest.mark.parametrize(("status", "expected"), [(200, True), (503, False)])
async def test_only_200_counts_as_answering(status, expected):
    async def reply(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %d x\r\n\r\n" % status)
        writer.close()

    async with await asyncio.start_server(reply, "127.0.0.1", 0) as server:
        assert await is_answering("127.0.0.1", server.sockets[0].getsockname()[1]) is expected


async def test_nobody_there_is_not_answering():
    assert not await is_answering("127.0.0.1", free_port())
