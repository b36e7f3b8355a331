"""A front before the collector that fails as networks, proxies and servers do: an HTTP server on a port of its own."""

from __future__ import annotations

import threading
from collections import deque
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from system import System, until


class Fault(NamedTuple):
    """What happens to one POST instead of being led to the collector.

    With a `status` it is answered by that; without, the connection ends with no answer. `after`: once the collector
    has taken it, so that only the answer is lost.
    """

    status: int = 0
    retry_after: str = ""
    after: bool = False


class Front:
    """`with Front(system) as front:` leads requests to `front.url` to the system, but for the next `front.faults`."""

    def __init__(self, system: System) -> None:
        self.faults: deque[Fault] = deque()
        self.posts = 0
        """How many POSTs came."""
        self.gets = 0
        """How many GETs came."""
        self.taken = 0
        """How many POSTs the collector answered by 200."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, system))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Front:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def until_posts(self, count: int) -> None:
        """Waits until `count` POSTs came."""
        until(lambda: self.posts >= count, lambda: f"{self.posts} instead of {count} requests")


def _handler(front: Front, system: System) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            front.gets += self.command == "GET"
            self._lead(None)

        def do_POST(self) -> None:
            front.posts += 1
            self._lead(front.faults.popleft() if front.faults else None)

        do_OPTIONS = do_GET

        def _lead(self, fault: Fault | None) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if fault is None or fault.after:
                status, headers, answer = self._ask(body)
            if fault is not None and not fault.status:
                self.close_connection = True
                return
            if fault is not None:
                status, headers, answer = fault.status, [], b"<h1>Service Unavailable</h1>"
                if origin := self.headers.get("Origin"):
                    headers = [("Access-Control-Allow-Origin", origin), ("Access-Control-Allow-Credentials", "true")]
                    headers.append(("Access-Control-Expose-Headers", "Retry-After"))
                if fault.retry_after:
                    headers.append(("Retry-After", fault.retry_after))
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = HTTPConnection("127.0.0.1", system.port, timeout=30)
            try:
                headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
                connection.request(self.command, self.path, body or None, headers)
                answer = connection.getresponse()
                front.taken += self.command == "POST" and answer.status == 200
                return answer.status, answer.getheaders(), answer.read()
            finally:
                connection.close()

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
