"""A real HTTP server on loopback that records what destinations send, and answers as it is told, path by path."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import msgspec
from system import until

from eventrouter.testing import Answer


class Hit(NamedTuple):
    """A request that came. `headers` have lower-case names; `at` is a monotonic time in seconds."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    status: int

    @property
    def json(self) -> Any:
        """The body as JSON, numbers exact."""
        return msgspec.json.decode(self.body)

    @property
    def id(self) -> str:
        """Its idempotency key."""
        return self.headers["webhook-id"]


Script = Callable[[Any], Answer]
"""Answers by the request's JSON."""


class Sink:
    """`with Sink() as sink:`; destinations post to `sink.url + path`. Without a script every path answers 200."""

    def __init__(self) -> None:
        self._hits: dict[str, list[Hit]] = defaultdict(list)
        self._next: dict[str, deque[Answer]] = defaultdict(deque)
        self._always: dict[str, Script] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def answer(self, path: str, *answers: Answer) -> None:
        """Gives these answers to the next requests of `path`, one each."""
        self._next[path].extend(answers)

    def always(self, path: str, script: Script | Answer | None) -> None:
        """Answers every request of `path` so; None: with 200 again."""
        if script is None:
            self._always.pop(path, None)
        else:
            self._always[path] = (lambda _: script) if isinstance(script, Answer) else script

    def at(self, path: str) -> list[Hit]:
        """What came so far."""
        with self._lock:
            return list(self._hits[path])

    def taken(self, path: str) -> list[Hit]:
        """What came and was answered with 2xx."""
        return [hit for hit in self.at(path) if hit.status < 300]

    def wait(self, path: str, count: int, where: Callable[[Any], bool] = lambda _: True) -> list[Hit]:
        """The `count` requests of `path` (with JSON as `where` wants it) that were taken, once they are there."""

        def found() -> list[Hit]:
            return [hit for hit in self.taken(path) if where(hit.json)]

        until(
            lambda: len(found()) >= count,
            lambda: f"{path} took {len(found())} of {len(self.at(path))} requests, not {count}",
        )
        hits = found()
        assert len(hits) == count, hits
        return hits

    def __enter__(self) -> Sink:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                answer = sink._choose(self.path, body)
                headers = {name.lower(): value for name, value in self.headers.items()}
                with sink._lock:
                    sink._hits[self.path].append(Hit(self.path, headers, body, time.monotonic(), answer.status))
                sink._stopped.wait(answer.delay)
                text = answer.body.encode()
                try:
                    self.send_response(answer.status)
                    for name, value in {"Content-Length": str(len(text)), **answer.headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(text)
                except OSError:  # the client gave up
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _choose(self, path: str, body: bytes) -> Answer:
        with self._lock:
            if self._next[path]:
                return self._next[path].popleft()
            script = self._always.get(path)
        return script(msgspec.json.decode(body)) if script is not None else Answer()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Quiet: what came tells the test enough."""
