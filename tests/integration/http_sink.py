"""A real HTTP server on loopback that records what destinations send, and answers as it is told, path by path."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from system import until

from eventrouter.testing import Answer, FakeServer, Received


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
        self._server = FakeServer(self._take)
        self._hits: dict[str, list[Hit]] = defaultdict(list)
        self._next: dict[str, deque[Answer]] = defaultdict(deque)
        self._always: dict[str, Script] = {}
        self._lock = threading.Lock()

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
        self._server.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.__exit__(*error)

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return self._server.url

    def _take(self, request: Received) -> Answer:
        path, body = request.path, request.body
        with self._lock:
            script = self._always.get(path)
            answer = self._next[path].popleft() if self._next[path] else None
        if answer is None:
            answer = script(msgspec.json.decode(body)) if script is not None else Answer()
        with self._lock:
            self._hits[path].append(Hit(path, request.headers, body, time.monotonic(), answer.status))
        return answer
