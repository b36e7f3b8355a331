"""The web server: runs an ASGI application on a port until it is told to stop. Everything that is uvicorn's is here."""

from __future__ import annotations

import asyncio
import contextlib
import math
import resource
import signal
import socket
from collections.abc import Callable, Coroutine, Iterable, Iterator
from functools import partial
from typing import Any, TypeVar, cast

import structlog
import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from .answer import busy, cors_headers, failure
from .ports import BACKLOG, bind
from .receive import Body

log = structlog.get_logger("eventrouter.serve")

DRAIN_SECONDS = 20
"""How long a request in progress may take after the server was told to stop."""
KEEP_ALIVE_SECONDS = 75
"""How long a connection without a request stays open: longer than the usual 60 seconds of a load balancer."""
HEADER_BYTES = 64 * 1024
HEADER_SECONDS = 30.0
"""How large a request's head may be, and how long it may take."""
CROWDED_PERCENT = 75
"""From so many of the connections that there may be on, they end with their answer, and who says nothing makes room."""
SILENT_SECONDS = 5.0
"""How long a client may then say nothing, be it between two requests or in the middle of one."""
LATE_CONNECTIONS = 128
"""How many connections beyond those that there may be are told so; more are closed at once."""

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
    on_refused: Callable[[str], None] = lambda code: None,
    connections: int = 8192,
    **told: str,
) -> None:
    """Serves `app` until `stop` is set or, without one, until SIGTERM or SIGINT; then ends the requests in progress.

    Takes connections from `listener` where it is given, and closes it. `on_ready` gets the URL once requests are
    answered, `on_refused` the code of each request that is refused before `app` sees it. Connections beyond
    `connections` (or what the process may open) get 503. The log has `told` beside the URL. Raises `StartError`.
    """
    listener = listener or bind(host, port)
    url = _url(host, listener)

    def started() -> None:
        log.info("ready", url=url, **told)
        if on_ready is not None:
            on_ready(url)

    gate = _Gate(_allow_files(connections), on_refused)
    config = uvicorn.Config(
        app,
        http=cast("type[asyncio.Protocol]", partial(_Protocol, gate)),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",  # its warnings are a line for each malformed request
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
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


class _Gate:
    """How many connections there may be, and what is counted of those that are refused."""

    def __init__(self, limit: int, on_refused: Callable[[str], None]) -> None:
        self.limit = limit
        self.crowd = max(limit * CROWDED_PERCENT // 100, 1)
        self.refuse = on_refused
        self._cleared = self._told = -math.inf

    def clear(self, connections: Iterable[Any], now: float) -> None:
        """Ends the connections that wait for their client, at most once a second: there may be thousands."""
        if now - self._cleared < min(1.0, SILENT_SECONDS):
            return
        self._cleared = now
        for connection in list(connections):
            connection.end_silence(now)

    def tell(self, now: float) -> None:
        """Counts a connection that is refused, and says so in the log at most once a minute."""
        self.refuse("too_many_connections")
        if now - self._told >= 60:
            self._told = now
            log.warning("there are too many connections: clients are told to come again", limit=self.limit)

    async def show(self, scope: Any, receive: Any, send: Any) -> None:
        """An ASGI application that tells the client to come again."""
        headers = dict(scope["headers"])
        if b"expect" not in headers:
            await Body(receive, None).drain()
        message = "the collector has too many connections; send the events again later"
        origin = headers.get(b"origin")
        more = () if origin is None else cors_headers(origin)
        await busy(503, "too_many_connections", message, 1.0).closing().send(send, more)


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds: on the head of a request, in size and in time, and on how many may connect.

    What it refuses it tells in the collector's way, and counts.
    """

    _head_bytes = 0
    _head_begun = False
    _head_timer: asyncio.TimerHandle | None = None
    _heard = 0.0
    _late = False

    def __init__(self, gate: _Gate, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._gate = gate
        self._app = self.app

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._heard = self.loop.time()
        self._await_head()
        count = len(self.connections)
        if count < self._gate.crowd:
            return
        self._gate.clear(self.connections, self._heard)
        self._late = count > self._gate.limit
        if count > self._gate.limit + min(LATE_CONNECTIONS, self._gate.limit):
            self._gate.tell(self._heard)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_head()
        self._head_begun = True

    def on_headers_complete(self) -> None:
        self._end_head()
        count = len(self.connections)
        if (self._late and count > self._gate.limit) or len(self.tasks) > self._gate.limit:
            self._gate.tell(self.loop.time())
            self.app = self._gate.show
        else:
            self.app = self._app
        super().on_headers_complete()
        if count >= self._gate.crowd and self.cycle is not None:
            self.cycle.keep_alive = False

    def data_received(self, data: bytes) -> None:
        timer = self._head_timer
        self._heard = self.loop.time()
        super().data_received(data)
        if timer is not None and timer is self._head_timer:
            self._head_bytes += len(data)
            if self._head_bytes > HEADER_BYTES and not self.transport.is_closing():
                self._refuse(431, "head_too_large", f"the request's head is larger than {HEADER_BYTES} bytes")

    def send_400_response(self, msg: str) -> None:
        """Where uvicorn refuses what it can't read."""
        self._refuse(400, "invalid_http", "the request is not HTTP/1.1, or not as the standard has it")

    def end_silence(self, now: float) -> None:
        """Closes the connection when it is the client's turn, and has been for long."""
        waits = self.cycle is None or self.cycle.response_complete or (self.cycle.more_body and not self.pipeline)
        if waits and now - self._heard > SILENT_SECONDS and not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answers in the application's stead, and closes the connection."""
        self._gate.refuse(code)
        answer = failure(status, code, message).closing()
        headers = [b"%b: %b\r\n" % header for header in answer.headers]
        length = b"content-length: %d\r\n\r\n" % len(answer.body)
        self.transport.write(STATUS_LINE[status] + b"".join(headers) + length + answer.body)
        self.transport.close()

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_bytes = 0
            self._head_timer = self.loop.call_later(HEADER_SECONDS, self._give_up_head)

    def _give_up_head(self) -> None:
        if self.transport.is_closing():
            return
        if self._head_begun:
            reason = f"the request's head did not arrive within {HEADER_SECONDS:g} seconds"
            self._refuse(408, "head_timeout", reason)
        else:
            self.transport.close()

    def _end_head(self) -> None:
        self._head_begun = False
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
