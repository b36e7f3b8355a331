"""A stand-in for a service, on loopback: what tests of destinations send to. Part of the kit in `testing`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import msgspec


class Answer(msgspec.Struct, frozen=True):
    """What `FakeServer` answers: after `delay` seconds."""

    status: int = 200
    body: str = "{}"
    headers: dict[str, str] = {}
    delay: float = 0.0
    echo: bool = False
    """Whether the answer's body is what was sent, with its headers, as in the error pages of some services."""


class Received(msgspec.Struct, frozen=True):
    """A request that `FakeServer` got. `path` has the query; `headers` have lower-case names."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return msgspec.json.decode(self.body)


class FakeServer:
    """An HTTP server on loopback that records what it gets: `with FakeServer() as server: … server.url`.

    It gives `answer` to every request, or what `answer` makes of the request; that may run in several threads at once.
    """

    def __init__(self, answer: Answer | Callable[[Received], Answer] | None = None) -> None:
        self.answer = answer or Answer()
        self.received: list[Received] = []
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return self._handle
                raise AttributeError(name)

            def _handle(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                received = Received(self.command, self.path, headers, body)
                fake.received.append(received)
                answer = fake.answer(received) if callable(fake.answer) else fake.answer
                fake._stopped.wait(answer.delay)
                sent = "".join(
                    f"{name}: {value}\n" for name, value in [(self.command, self.path), *self.headers.items()]
                )
                text = b"" if answer.status == 204 else sent.encode() + body if answer.echo else answer.body.encode()
                try:
                    self.send_response(answer.status)
                    for name, value in {"Content-Length": str(len(text)), **answer.headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(text)
                except OSError:  # the client gave up
                    self.close_connection = True

            def log_message(self, *args: Any) -> None:
                """Quiet."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    """Ends with its process, and says nothing about a client that hangs up."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Quiet: what was received tells the test enough."""
