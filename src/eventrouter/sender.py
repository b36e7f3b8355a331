"""Sends the events of a file of JSON lines to a collector, in order, in batches, and again where it was too busy."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol

import msgspec

from .errors import EventRouterError, Reject, Retry, UnavailableError
from .http import HttpClient, Response, retry_after

BATCH_EVENTS = 100
BATCH_BYTES = 400_000
"""Below the collector's limit of 500 KB with room for what is around the events."""
PATIENCE_SECONDS = 120.0
"""How long a collector that is away or busy is tried again before the rest is given up."""
QUIET_SECONDS = 30.0
"""How often it is told that one is waited for, at most: a collector may put off every batch for a moment."""
NO_COLLECTOR = frozenset({301, 302, 303, 307, 308, 404, 405})
"""What a collector never answers to events: somebody else is at that address."""
REJECTED_BYTES = 2_000_000
"""How much of an answer is read: it names each refused event."""


class Progress(AbstractContextManager[Any], Protocol):
    """Told how many bytes of the file are dealt with, and what is going on."""

    def __call__(self, read: int, note: str) -> None: ...


@dataclass
class Fault:
    """A line that was not taken, and why."""

    line: int
    code: str
    message: str


@dataclass
class Report:
    """What came of a file."""

    sent: int = 0
    """Events that the collector has kept."""
    faults: list[Fault] = field(default_factory=list)


class _Line(msgspec.Struct):
    number: int
    raw: bytes
    end: int


class _Event(msgspec.Struct):
    """Of an event only the id is of interest; the rest stays as it is written."""

    message_id: Any = msgspec.field(name="messageId", default=None)


_decoder = msgspec.json.Decoder(_Event)


class Sender:
    """Sends to the collector at `url` with `write_key`."""

    def __init__(
        self,
        url: str,
        write_key: str,
        *,
        patience: float = PATIENCE_SECONDS,
        waiting: Callable[[str, float], None] = lambda why, seconds: None,
        wait: Callable[[float], Any] = asyncio.sleep,
    ) -> None:
        """`patience` is in seconds; `waiting` is told why a batch has to wait, and for how many seconds at most."""
        self._url = url.rstrip("/") + "/v1/batch"
        self._key = base64.b64encode(f"{write_key}:".encode()).decode()
        self._patience = patience
        self._waiting = waiting
        self._told = -QUIET_SECONDS
        self._wait = wait
        self._http = HttpClient(timeout=30.0, allow_private=True)

    async def send(self, stream: BinaryIO, name: str = "", *, progress: Any = None) -> Report:
        """Sends every line of `stream`. `name` makes the ids of events without one; an empty name makes them random.

        Raises `UnavailableError` when the collector stays away, `EventRouterError` when it refuses the write key.
        """
        report = Report()
        seed = name or secrets.token_hex(8)
        context = progress if progress is not None else nullcontext(lambda read, note: None)
        try:
            with context as tell:
                for batch in _batches(_lines(stream, seed, report)):
                    await self._send(batch, report, tell)
                    tell(batch[-1].end, f"Sent {report.sent}")
        finally:
            await self._http.close()
        report.faults.sort(key=lambda fault: fault.line)
        return report

    async def _send(self, batch: list[_Line], report: Report, tell: Callable[[int, str], None]) -> None:
        response = await self._post(batch, report, tell)
        if response.status == 200:
            rejected = self._rejected(response)
            for one in rejected:
                line = batch[int(one["index"])]
                report.faults.append(Fault(line.number, str(one.get("code")), str(one.get("message"))))
            report.sent += len(batch) - len(rejected)
            return
        code, message = _explain(response)
        if response.status in (401, 403):
            raise EventRouterError(
                f"the collector refuses the write key: {message}", hint="see --write-key and --source"
            )
        if response.status in NO_COLLECTOR:
            raise self._no_collector(response)
        if len(batch) == 1:
            report.faults.append(Fault(batch[0].number, code, message))
            return
        # Refused as a whole (too large, say): the lines at fault are found by halving, and cost no other.
        middle = len(batch) // 2
        await self._send(batch[:middle], report, tell)
        await self._send(batch[middle:], report, tell)

    def _rejected(self, response: Response) -> list[dict[str, Any]]:
        """The events that a collector did not take; raises `EventRouterError` where somebody else answers."""
        try:
            body = response.json()
        except Retry:
            body = None
        if not isinstance(body, dict) or body.get("success") is not True:
            raise self._no_collector(response)
        return list(body.get("rejected", []))

    def _no_collector(self, response: Response) -> EventRouterError:
        return EventRouterError(
            f"there is no collector at {self._url}: something else answers {response.status}", hint="see --url"
        )

    async def _post(self, batch: list[_Line], report: Report, tell: Callable[[int, str], None]) -> Response:
        body = b'{"batch":[' + b",".join([line.raw for line in batch]) + b"]}"
        headers = {"Authorization": f"Basic {self._key}", "Content-Type": "application/json"}
        deadline = time.monotonic() + self._patience
        pause = 0.5
        while True:
            after = None
            try:
                response = await self._http.post(self._url, headers=headers, data=body, max_body=REJECTED_BYTES)
                if response.status not in (408, 429) and response.status < 500:
                    return response
                why = f"it answers {response.status}: {_explain(response)[1]}"
                after = retry_after(response.headers)
            except Retry as error:
                why = error.reason
            except Reject as error:
                raise EventRouterError(f"cannot send to {self._url}: {error.reason}", hint="see --url") from None
            seconds = after if after is not None else random.uniform(pause / 2, pause)
            pause = min(pause * 2, 10.0)
            if time.monotonic() + seconds > deadline:
                raise UnavailableError(
                    f"the collector takes no events ({why}); {report.sent} were sent, line {batch[0].number} and later"
                    " ones were not",
                    hint="is `eventrouter up` running? The same command goes on later: an event is not kept twice",
                )
            self._tell_waiting(why, deadline)
            tell(max(batch[0].end - len(batch[0].raw), 0), f"Waiting: {why}")
            await self._wait(seconds)

    def _tell_waiting(self, why: str, deadline: float) -> None:
        now = time.monotonic()
        if now - self._told >= QUIET_SECONDS:
            self._waiting(why, deadline - now)
        self._told = now


def _lines(stream: BinaryIO, seed: str, report: Report) -> Iterator[_Line]:
    """The events of the stream; lines that hold none are faults, empty ones nothing."""
    end = 0
    for number, raw in enumerate(stream, start=1):
        end += len(raw)
        text = raw.strip() if number > 1 else raw.removeprefix(b"\xef\xbb\xbf").strip()
        if not text:
            continue
        try:
            text.decode("utf-8")  # the decoder doesn't look into what it skips
            event = _decoder.decode(text)
        except UnicodeDecodeError as error:
            report.faults.append(Fault(number, "invalid_json", f"the line is not UTF-8 (byte {error.start})"))
            continue
        except (msgspec.DecodeError, RecursionError) as error:
            code = "not_an_object" if isinstance(error, msgspec.ValidationError) else "invalid_json"
            what = "is not a JSON object" if code == "not_an_object" else f"is not valid JSON: {error}"
            report.faults.append(Fault(number, code, f"the line {what}"))
            continue
        if event.message_id is None or event.message_id == "":
            digest = hashlib.sha256(f"{seed}\n{number}\n".encode() + text).hexdigest()[:32]
            rest = text[1:].lstrip()
            # Put last, where a messageId that is null or empty comes before it and loses.
            comma = b"" if rest.startswith(b"}") else b","
            text = text[:-1] + comma + b'"messageId":"send-' + digest.encode() + b'"}'
        yield _Line(number, text, end)


def _batches(lines: Iterator[_Line]) -> Iterator[list[_Line]]:
    batch: list[_Line] = []
    size = 0
    for line in lines:
        if batch and (len(batch) >= BATCH_EVENTS or size + len(line.raw) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += len(line.raw) + 1
    if batch:
        yield batch


def _explain(response: Response) -> tuple[str, str]:
    """`code` and `message` of an error's body, as far as it has them."""
    try:
        body = response.json()
    except Retry:
        body = None
    if not isinstance(body, dict):
        return f"http_{response.status}", response.text[:200] or f"HTTP {response.status}"
    return str(body.get("code", f"http_{response.status}")), str(body.get("message", response.text[:200]))
