"""The web server: runs an ASGI application on a port until it is told to stop. Everything that is uvicorn's is here."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import structlog
import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .ports import BACKLOG, bind

log = structlog.get_logger("eventrouter.serve")

DRAIN_SECONDS = 20
"""How long a request in progress may take after the server was told to stop."""
KEEP_ALIVE_SECONDS = 75
"""How long a connection without a request stays open: longer than the usual 60 seconds of a load balancer."""
HEADER_BYTES = 64 * 1024
HEADER_SECONDS = 30.0
"""How large a request's head may be, and how long it may take."""

Result = TypeVar("Result")


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Runs `main` in a fast event loop of its own and returns its result."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


async def serve(
    app: Any,
    host: str,
    port: int,
    *,
    listener: socket.socket | None = None,
    stop: asyncio.Event | None = None,
    on_ready: Callable[[str], None] | None = None,
    connections: int = 8192,
) -> None:
    """Serves `app` until `stop` is set or, without one, until SIGTERM or SIGINT; then ends the requests in progress.

    Takes connections from `listener` where it is given, and closes it. `on_ready` gets the URL once requests are
    answered. Connections beyond `connections` (or what the process may open) get 503. Raises `StartError`.
    """
    listener = listener or bind(host, port)
    url = _url(host, listener)

    def started() -> None:
        log.info("ready", url=url)
        if on_ready is not None:
            on_ready(url)

    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",  # its warnings are a line for each malformed request
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        limit_concurrency=_allow_files(connections),
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    server = _Server(config, started)
    with contextlib.ExitStack() as stack:
        if stop is None:
            stop = stack.enter_context(_stop_on_signals(server))
        waiter = asyncio.ensure_future(stop.wait())
        waiter.add_done_callback(lambda _: server.end())
        try:
            await server.serve(sockets=[listener])
        finally:
            waiter.cancel()
            listener.close()
    log.info("stopped", url=url)


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves signals to others and tells when it has started."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = started

    def end(self) -> None:
        """Ends the requests in progress; when called again, ends at once."""
        self.force_exit = self.should_exit
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol with a bound on the head of a request, in size and in time."""

    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        timer = self._head_timer
        super().data_received(data)
        if timer is not None and timer is self._head_timer:
            self._head_bytes += len(data)
            if self._head_bytes > HEADER_BYTES and not self.transport.is_closing():
                self.send_400_response("The request's headers are too large.")

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_bytes = 0
            self._head_timer = self.loop.call_later(HEADER_SECONDS, self.timeout_keep_alive_handler)

    def _end_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


@contextlib.contextmanager
def _stop_on_signals(server: _Server) -> Iterator[asyncio.Event]:
    """An event that SIGTERM or SIGINT sets; a second one ends the server at once."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def handle() -> None:
        if stop.is_set():
            server.end()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, handle)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _allow_files(connections: int) -> int:
    """Asks for as many open files as `connections` need; returns how many connections there may be."""
    spare = 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return connections
    wanted = connections + spare if hard == resource.RLIM_INFINITY else min(connections + spare, hard)
    if soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return min(connections, max(soft - spare, soft // 2))


def _url(host: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
