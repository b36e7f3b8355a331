"""Those who look on, by `eventrouter tail`: while there are some, each process shows them what becomes of events.

It shows by Redis' publish and subscribe, which keeps nothing and waits for nobody. While nobody looks on, the path of
events has one attribute to look at for a batch, and nothing else. What becomes of deliveries is in the outcome log.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from .acceptance import AcceptedEvent
from .collect import Append
from .events import StoredEvent, event_name
from .moves import Routed
from .records import RejectedEvent
from .server_time import now_ms

log = structlog.get_logger("eventrouter.onlookers")

KEY = "er:tail:watched"
"""There while somebody looks on, who has to renew it."""
CHANNEL = "er:tail"
KEY_SECONDS = 10.0
LOOK_SECONDS = 1.0
"""How often a process looks whether somebody does."""
SHOW_SECONDS = 0.1
MAX_ROWS = 300
MAX_BYTES = 1_000_000
"""How much a process shows at once, every `SHOW_SECONDS`; of what is more only the number is told."""

What = Literal["accepted", "rejected", "routed", "duplicate", "filtered", "delivered", "retried", "dead", "state"]


class Row(msgspec.Struct, omit_defaults=True):
    """Something that became of an event; or a destination's new `state`, with `reason` for what it is."""

    at_ms: int
    what: What
    source: str = ""
    type: str = ""
    name: str | None = None
    """The event's name (track) or page's name."""
    message_id: str = ""
    destination: str = ""
    reason: str = ""
    class_: str = msgspec.field(name="class", default="")
    """Of a dead letter."""
    to: list[str] = []
    """The destinations that get it, once it is routed."""
    filtered: dict[str, str] = {}
    """Those that don't, with the reason."""
    event: Any = None
    """The event as it was accepted, or as it was when it was routed."""


class Shown(msgspec.Struct):
    """What one process publishes at once."""

    process: str
    shown: int
    """How many rows it has shown in all, with these."""
    skipped: int
    """How many it could not show."""
    rows: list[Row] = []


class _Shown(msgspec.Struct):
    process: str
    shown: int
    skipped: int
    rows: list[msgspec.Raw]


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(Shown)
_decode_event = msgspec.json.Decoder(StoredEvent).decode


def decode(data: bytes) -> Shown | None:
    """What was published; None where another version did."""
    try:
        return _decoder.decode(data)
    except msgspec.MsgspecError:
        return None


def row_of(at_ms: int, what: What, stored: StoredEvent) -> Row:
    """A row of a whole event."""
    event = stored.event
    type_, message_id = str(event.get("type", "")), str(event.get("messageId", ""))
    return Row(at_ms, what, stored.source, type_, event_name(event), message_id, event=event)


class Onlookers:
    """What one process shows, from `start` to `stop`."""

    def __init__(self, redis: Redis) -> None:
        self.present = False
        """Whether somebody looks on."""
        self._redis = redis
        self._name = ""
        self._rows: list[Row] = []
        self._shown = self._skipped = 0
        self._task: asyncio.Task[None] | None = None

    def start(self, kind: str) -> None:
        """Begins; `kind` is `collector` or `worker`."""
        self._name = f"{kind}:{socket.gethostname()}:{os.getpid()}"
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ends; may be called twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            present = False
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                present = bool(await self._redis.exists(KEY))
            self.present = present
            if not present:
                self._rows.clear()
                await asyncio.sleep(LOOK_SECONDS)
                continue
            await self._publish(even_nothing=True)
            ends = time.monotonic() + LOOK_SECONDS
            while time.monotonic() < ends:
                await asyncio.sleep(SHOW_SECONDS)
                await self._publish()

    async def _publish(self, *, even_nothing: bool = False) -> None:
        rows, self._rows = self._rows, []
        if not rows and not even_nothing:
            return
        encoded: list[msgspec.Raw] = []
        size = 0
        for row in rows:
            data = _encode(row)
            if size + len(data) <= MAX_BYTES:
                size += len(data)
                encoded.append(msgspec.Raw(data))
        self._shown += len(encoded)
        self._skipped += len(rows) - len(encoded)
        # Where that fails, who looks on sees by `shown` that they are missing.
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            await self._redis.publish(CHANNEL, _encode(_Shown(self._name, self._shown, self._skipped, encoded)))

    def _add(self, number: int, rows: Iterable[Row]) -> None:
        """Takes as many of `number` rows as there is room for; the others are not even made."""
        room = max(MAX_ROWS - len(self._rows), 0)
        self._skipped += max(number - room, 0)
        try:
            self._rows += islice(rows, room)
        except Exception:  # nobody's events wait for this
            log.exception("what became of events could not be shown")

    def showing(self, append: Append) -> Append:
        """`append`, which then shows what it kept."""

        async def append_and_show(events: Sequence[AcceptedEvent], rejected: Sequence[RejectedEvent]) -> None:
            await append(events, rejected)
            if self.present:
                self.accepted(events, rejected)

        return append_and_show

    def accepted(self, events: Sequence[AcceptedEvent], rejected: Sequence[RejectedEvent]) -> None:
        """Shows events that are kept, and those that were refused."""
        at = now_ms()
        self._add(len(events), (row_of(at, "accepted", _decode_event(one.data)) for one in events))
        self._add(
            len(rejected),
            (
                Row(at, "rejected", one.source, message_id=one.message_id or "", reason=f"{one.code}: {one.message}")
                for one in rejected
            ),
        )

    def routed(
        self,
        came: Sequence[StoredEvent],
        kept: Sequence[StoredEvent],
        route: Callable[[Sequence[StoredEvent]], Routed],
    ) -> None:
        """Shows a batch: of the events that `came`, those that are `kept` and where they go; others are duplicates."""
        at = now_ms()

        def rows() -> Iterator[Row]:
            for stored in kept:
                row, routed = row_of(at, "routed", stored), route([stored])
                row.to = [one.destination for one in routed.deliveries]
                row.filtered = dict(routed.filtered.keys())
                yield row

        new = {id(one) for one in kept}
        again = [one for one in came if id(one) not in new]
        self._add(len(kept), rows())
        self._add(len(again), (row_of(at, "duplicate", one) for one in again))
