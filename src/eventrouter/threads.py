"""Threads for what blocks, which nobody has to wait for when a worker ends."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

Work = tuple["Future[Any]", Callable[[], Any]]

POLL_SECONDS = 0.02
HURRY_SECONDS = 0.2


class StoppedError(Exception):
    """The threads were stopped before the work came to its end."""

    def __init__(self) -> None:
        super().__init__("it was stopped before it came to its end")


class Threads:
    """Up to `count` threads that do one piece of work after the other.

    Python waits for the threads of a ThreadPoolExecutor when it exits, however long a database keeps one of them;
    these are let go.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._started = 0
        self._todo: SimpleQueue[Work | None] = SimpleQueue()
        self._open: set[Future[Any]] = set()
        """What was submitted and has not come to its end."""
        self._lock = threading.Lock()
        self._stopped = False
        # Who was forgotten without a stop leaves no threads behind.
        weakref.finalize(self, _send_away, self._todo, count).atexit = False

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Does `work` in a thread as soon as one is free. Fails with `StoppedError` after `stop`."""
        future: Future[T] = Future()
        with self._lock:
            if self._stopped:
                future.set_exception(StoppedError())
                return future
            self._open.add(future)
            future.add_done_callback(self._open.discard)
            self._todo.put((future, work))
            if self._started < min(self._count, len(self._open)):
                self._started += 1
                name = f"{self._name}_{self._started}"
                threading.Thread(target=_serve, args=(self._todo,), name=name, daemon=True).start()
        return future

    async def run(self, work: Callable[[], T]) -> T:
        """`submit`, awaited. When it is cancelled, work that has begun goes on."""
        return await asyncio.wrap_future(self.submit(work))

    async def stop(self, seconds: float, hurry: Callable[[], None], *, grace: float = 0.0) -> bool:
        """Ends the threads: what has not begun fails with `StoppedError`, what runs has up to `seconds` to end.

        After `grace` seconds `hurry`, which has to return at once, is called again and again. What has not come to its
        end in time fails with `StoppedError`, too, and its thread is let go; then the result is False.
        """
        with self._lock:
            self._stopped = True
        with contextlib.suppress(Empty):
            while True:
                if (waiting := self._todo.get_nowait()) is not None:
                    _fail(waiting[0])
        _send_away(self._todo, self._count)
        now = time.monotonic()
        ends, next_hurry = now + seconds, now + grace
        while self._open and (now := time.monotonic()) < ends:
            if now >= next_hurry:
                hurry()
                next_hurry = now + HURRY_SECONDS
            await asyncio.sleep(POLL_SECONDS)
        lost = list(self._open)
        for future in lost:
            _fail(future)
        return not lost


def _fail(future: Future[Any]) -> None:
    with contextlib.suppress(InvalidStateError):  # it ended, or was cancelled, just now
        future.set_exception(StoppedError())


def _send_away(todo: SimpleQueue[Work | None], count: int) -> None:
    for _ in range(count):
        todo.put(None)


def _serve(todo: SimpleQueue[Work | None]) -> None:
    while (one := todo.get()) is not None:
        _do(*one)
        del one


def _do(future: Future[Any], work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    with contextlib.suppress(InvalidStateError):  # it took too long: nobody waits for it any more
        try:
            result = work()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)
