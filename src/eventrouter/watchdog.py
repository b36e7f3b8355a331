"""The watchdog of a worker: notices that a plugin or a route blocks the event loop, names it, and ends the process.

Whoever runs the worker starts it again (`up`, systemd); its lanes are taken over when their leases end.
"""

from __future__ import annotations

import asyncio
import os
import sys
import sysconfig
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple, TypeVar

import structlog
from redis.exceptions import RedisError

from . import child
from .connections import client
from .destination import Destination
from .enrichment import Enrichment
from .health import HOLD_SECONDS, health_key
from .lanes import Lanes
from .route import CompiledRoute, Router

T = TypeVar("T")

log = structlog.get_logger("eventrouter.watchdog")

BLOCKED_SECONDS = 10.0
"""How long the event loop may be blocked: longer than a lease, so that the lanes are lost by then anyway."""
EXIT_CODE = 70
"""`EX_SOFTWARE` of sysexits.h."""
ASK_SECONDS = 1.0
"""How often the loop is asked for a sign of life."""
HOLD_TRY_SECONDS = 3.0
"""How long it may take to put the destination on hold."""
LAST_SECONDS = 5.0
"""When the process ends even if neither Redis nor the log takes what there is to tell."""

_OURS = f"{Path(__file__).parent}{os.sep}"
_STANDARD, _INSTALLED = f"{sysconfig.get_path('stdlib')}{os.sep}", f"{sysconfig.get_path('purelib')}{os.sep}"


class Blocked(NamedTuple):
    """Who blocks the loop, as far as the stack tells."""

    kind: str
    """`destination`, `enrichment`, `route`, or '' when none of them is on the stack."""
    name: str
    module: str
    place: str
    """File, line and function: of the plugin's own code where there is some. Of a route its line in the rules."""
    stack: tuple[str, ...]
    """Outermost first."""


class Watchdog:
    """Watches the event loop in which `start` is called, from a thread of its own."""

    def __init__(self, url: str, *, seconds: float = BLOCKED_SECONDS, end: Callable[[int], object] = os._exit) -> None:
        """`url` is the server's; `end` ends the process at once, with an exit code."""
        self._url = url
        self._seconds = seconds
        self._end = end
        self._alive = threading.Event()
        """Set by the loop."""
        self._stopped = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loops_thread = 0

    def around(
        self, start: Callable[[], Awaitable[T]], stop: Callable[[], Awaitable[None]]
    ) -> tuple[Callable[[], Awaitable[T]], Callable[[], Awaitable[None]]]:
        """`start` and `stop` of a worker, watched from the beginning of the one to the end of the other."""

        async def watched_start() -> T:
            self.start()
            return await start()

        async def watched_stop() -> None:
            await stop()
            self.stop()

        return watched_start, watched_stop

    def start(self) -> None:
        """Begins to watch. Call it in the loop."""
        self._loop = asyncio.get_running_loop()
        self._loops_thread = threading.get_ident()
        threading.Thread(target=self._watch, name="eventrouter-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watches no longer."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            blocked = None if self._lives() else self._who()
            if blocked is not None and not self._alive.is_set() and not self._stopped.is_set():
                self._give_up(blocked)
                return
            self._stopped.wait(min(ASK_SECONDS, self._seconds))

    def _lives(self) -> bool:
        """Asks the loop for a sign of life; False when none came for so long that it is blocked."""
        assert self._loop is not None
        self._alive.clear()
        try:
            self._loop.call_soon_threadsafe(self._alive.set)
        except RuntimeError:  # the loop was closed
            self._stopped.set()
            return True
        part = self._seconds / 20
        silent = 0.0
        while silent < self._seconds:
            began, used = time.monotonic(), time.process_time()
            if self._alive.wait(part) or self._stopped.is_set():
                return True
            passed = time.monotonic() - began
            silent = silent + passed if counts(passed, time.process_time() - used, part) else 0.0
        return False

    def _who(self) -> Blocked | None:
        frame = sys._current_frames().get(self._loops_thread)
        return find(frame) if frame is not None else None

    def _give_up(self, blocked: Blocked) -> None:
        last = threading.Timer(LAST_SECONDS, self._end, (EXIT_CODE,))
        last.daemon = True
        last.start()
        if blocked.kind == "destination" and blocked.name:
            self._hold(blocked)
        what = "route" if blocked.kind == "route" else "plugin"
        log.error(
            f"a {what} blocks the event loop; this worker ends, to be replaced",
            **({blocked.kind: blocked.name} if blocked.kind else {}),
            module=blocked.module,
            place=blocked.place,
            seconds=self._seconds,
            stack="\n".join(blocked.stack),
        )
        who = f"{blocked.module} ({blocked.kind} {blocked.name})" if blocked.kind else blocked.module
        child.report(error={"message": f"{who} blocks the event loop: {blocked.place}", "hint": ""})
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        last.cancel()
        self._end(EXIT_CODE)

    def _hold(self, blocked: Blocked) -> None:
        """Puts the destination on hold, so that the next worker doesn't meet the same at once; it is probed."""
        delay = int(HOLD_SECONDS * 1000)
        reason = f"its plugin blocks the event loop: {blocked.place}"[:500]

        async def hold() -> None:
            redis = client(self._url)
            try:
                async with asyncio.timeout(HOLD_TRY_SECONDS):
                    arguments = ("fail", "hold", delay, delay, delay, 0, reason)
                    await Lanes(redis).run("health", [health_key(blocked.name)], arguments)
            finally:
                await redis.aclose(close_connection_pool=True)

        try:
            asyncio.run(hold())  # a client and a loop of our own: the worker's is blocked
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("the destination could not be put on hold", destination=blocked.name, error=str(error))


def counts(passed: float, used: float, planned: float) -> bool:
    """Whether the `passed` seconds of a wait of `planned` seconds say something about the loop.

    When the wait took much longer, this thread did not run either. Without much processor time `used` the process was
    stopped or starved, or the machine slept; with it, the loop's thread kept Python to itself, as C code may.
    """
    return passed <= 2 * planned + 1 or used >= passed / 2


def find(frame: FrameType) -> Blocked:
    """Who blocks the loop whose thread's innermost frame is `frame`."""
    frames = list(_outwards(frame))
    stack = tuple(_place(one) for one in reversed(frames))
    # The outermost one: what it calls is its own business.
    for depth, one in reversed(list(enumerate(frames))):
        plugin = _self(one)
        inner = frames[: depth + 1]
        if isinstance(plugin, Router) and isinstance(route := one.f_locals.get("route"), CompiledRoute):
            return _in_route(route, _foreign(inner), stack)
        if isinstance(plugin, Destination | Enrichment):
            module = type(plugin).__module__
            package = "eventrouter.builtin" if module.startswith("eventrouter.builtin.") else module.split(".")[0]
            at = next((each for each in inner if _is_within(each, package)), None) or _foreign(inner) or frames[0]
            if isinstance(plugin, Enrichment):
                return Blocked("enrichment", plugin.name, module, _place(at), stack)
            return Blocked("destination", getattr(plugin, "destination", ""), module, _place(at), stack)
    at = _foreign(frames) or frames[0]
    return Blocked("", "", _module(at), _place(at), stack)


def _in_route(route: CompiledRoute, filter_: FrameType | None, stack: tuple[str, ...]) -> Blocked:
    """A condition or template blocks, or the filter of a plugin in it."""
    place = f"{route.config.path}:{route.config.line}"
    if filter_ is None:
        return Blocked("route", route.name, CompiledRoute.__module__, place, stack)
    return Blocked("route", route.name, _module(filter_), f"{place}, {_place(filter_)}", stack)


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _self(frame: FrameType) -> object:
    code = frame.f_code
    return frame.f_locals.get("self") if code.co_argcount and code.co_varnames[0] == "self" else None


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _is_within(frame: FrameType, package: str) -> bool:
    return f"{_module(frame)}.".startswith(f"{package}.")


def _foreign(frames: Sequence[FrameType]) -> FrameType | None:
    """The innermost frame that is neither Python's nor ours."""
    for frame in frames:
        file = frame.f_code.co_filename
        standard = file.startswith(("<", _STANDARD)) and not file.startswith(_INSTALLED)
        if not standard and not file.startswith(_OURS):
            return frame
    return None


def _place(frame: FrameType) -> str:
    code = frame.f_code
    return f"{code.co_filename}:{frame.f_lineno} in {code.co_qualname}"
