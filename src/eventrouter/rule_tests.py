"""Runs the tests of the rules: given events, what does each destination get, and if nothing, why?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from .accept import accept
from .acceptance import Limits
from .collecting import make_source
from .config_model import Config, TestConfig
from .differences import Difference, differences, shown
from .events import StoredEvent
from .masking import Mask
from .outcome import Outcome, outcome_of
from .route import Router
from .scrub import Scrub
from .values import MISSING

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""When the events of a test arrive."""
GIVEN = {"anonymousId": "anonymous-1", "person_id": "person-1"}
"""What an event of a test has when it doesn't say otherwise; its `messageId` is `message-1`, `message-2`, …"""

_decode = msgspec.json.Decoder(StoredEvent).decode
_LIMITS = Limits(max_event_bytes=1 << 20, max_batch_bytes=1 << 20)


class Mistake(NamedTuple):
    """Something that isn't as the test expects it; without a destination it is about an event."""

    destination: str
    message: str
    differences: tuple[Difference, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.destination}: {self.message}" if self.destination else self.message]
        lines += [f"  {sign} {text}" for one in self.differences for sign, text, _ in shown(one)]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class TestResult:
    """What came of one test; passed when it has no mistakes."""

    __test__ = False  # for pytest, which collects classes of this name

    test: TestConfig
    mistakes: list[Mistake] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether all is as expected."""
        return not self.mistakes


def run_tests(
    config: Config, tests: Sequence[TestConfig], filters: Mapping[str, Callable[..., Any]] | None = None
) -> Iterator[TestResult]:
    """Runs each test with the rules of `config`, in memory; `filters` are the plugins' template filters.

    A destination that `expect` doesn't name has to get nothing. What variables brought into the rules is masked in what
    is told.
    """
    router = Router(config, filters)
    scrubs = {
        name: make_source(config.sources[name], filters or {}, config.vars).scrub
        for name in {one.source for one in tests}
    }
    for test in tests:
        events, mistakes = _given(test, scrubs[test.source])
        outcomes = {name: [outcome_of(router, event, name) for event in events] for name in config.destinations}
        if not mistakes:
            for name, found in outcomes.items():
                mistakes += _compare(test, name, found)
        yield TestResult(test, [_masked(config.mask, one) for one in mistakes])


def _masked(mask: Mask, mistake: Mistake) -> Mistake:
    unlike = [Difference(path, mask.inside(one), mask.inside(other)) for path, one, other in mistake.differences]
    return Mistake(mistake.destination, mask(mistake.message), tuple(unlike))


def _given(test: TestConfig, scrub: Scrub | None) -> tuple[list[StoredEvent], list[Mistake]]:
    """The events as the router gets them, and those that the collector would refuse."""
    events: list[StoredEvent] = []
    mistakes: list[Mistake] = []
    for number, given in enumerate(test.given, 1):
        whole = {"messageId": f"message-{number}", **given}
        if not given.get("userId"):
            whole.setdefault("anonymousId", GIVEN["anonymousId"])
        body = msgspec.json.encode({"batch": [whole]})
        accepted = accept(body, endpoint="batch", source=test.source, received_at=NOW, limits=_LIMITS, scrub=scrub)
        for rejection in accepted.rejections:
            record = rejection.record
            which = "the event" if len(test.given) == 1 else f"event {number}"
            mistakes.append(Mistake("", f"the collector refuses {which}: {record.message} ({record.code})"))
        for one in accepted.events:
            event = _decode(one.data)
            event.event["person_id"] = given.get("person_id", GIVEN["person_id"])
            events.append(event)
    return events, mistakes


def _compare(test: TestConfig, name: str, found: list[Outcome]) -> Iterator[Mistake]:
    """What is not as expected at one destination."""
    payloads = [outcome.payload for outcome in found if outcome.payload is not MISSING]
    reasons = list(dict.fromkeys(outcome.reason for outcome in found if outcome.payload is MISSING))
    expected = test.expect.get(name)
    if expected is None or isinstance(expected, str):
        wanted = "nothing" if expected is None else f"nothing, with the reason `{expected}`"
        for payload in payloads:
            yield Mistake(name, f"expected {wanted}, got", (Difference("", MISSING, payload),))
        if not payloads and expected is not None and reasons != [expected]:
            yield Mistake(name, f"expected {wanted}; the reason is `{'`, `'.join(reasons)}`")
        return
    several = isinstance(expected, list) and len(test.given) != 1
    wanted_all: list[Any] = list(expected) if several else [expected]
    if len(payloads) != len(wanted_all):
        why = f" (`{'`, `'.join(reasons)}`)" if reasons else ""
        yield Mistake(name, f"expected {_count(len(wanted_all))}, got {_count(len(payloads))}{why}")
        return
    for number, (wanted, payload) in enumerate(zip(wanted_all, payloads, strict=True), 1):
        if unlike := tuple(differences(wanted, payload, exact=test.exact)):
            which = f" {number}" if several else ""
            yield Mistake(name, f"payload{which} is not as expected", unlike)


def _count(number: int) -> str:
    return "nothing" if number == 0 else "a payload" if number == 1 else f"{number} payloads"
