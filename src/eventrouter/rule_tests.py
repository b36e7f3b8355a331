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
from .config_model import Config, PostConfig, TestConfig
from .config_tests import WAREHOUSE
from .differences import Difference, differences, shown
from .events import StoredEvent
from .masking import Mask
from .outcome import Outcome, outcome_of
from .route import Router
from .source import Source
from .values import MISSING, TemplateError

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""When the events of a test arrive."""
GIVEN = {"anonymousId": "anonymous-1", "person_id": "person-1"}
"""What an event of a test has when it doesn't say otherwise; its `messageId` is `message-1`, `message-2`, …"""
IGNORED = "ignored"
"""Why nothing becomes of what is posted to a webhook whose `when` is false."""

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
    names = {one.source for one in tests}
    sources = {name: make_source(config.sources[name], filters or {}, config.vars) for name in names}
    for test in tests:
        arrived = [_arrive(given, number, sources[test.source]) for number, given in enumerate(test.given, 1)]
        yield TestResult(test, [_masked(config.mask, one) for one in _mistakes(router, test, arrived)])


def _masked(mask: Mask, mistake: Mistake) -> Mistake:
    unlike = [Difference(path, mask.inside(one), mask.inside(other)) for path, one, other in mistake.differences]
    return Mistake(mistake.destination, mask(mistake.message), tuple(unlike))


class _Refused(NamedTuple):
    """An event that is not stored, and so goes nowhere."""

    code: str
    why: str = ""
    """Empty where nothing is wrong with it: the `when` of a webhook is false."""


def _arrive(given: dict[str, Any] | PostConfig, number: int, source: Source) -> StoredEvent | _Refused:
    """The event as the router gets it."""
    whole: dict[str, Any] = {"messageId": f"message-{number}"}
    if isinstance(given, PostConfig):
        assert source.webhook is not None
        try:
            event = source.webhook.event_of(given.body, given.headers, given.query)
        except TemplateError as error:
            return _Refused("mapping_failed", f"the webhook's mapping failed: {error}")
        if event is None:
            return _Refused(IGNORED)
        whole |= event
    else:
        whole |= given if given.get("userId") else {"anonymousId": GIVEN["anonymousId"], **given}
    body = msgspec.json.encode({"batch": [whole]})
    limits, scrub = _LIMITS, source.scrub
    accepted = accept(body, endpoint="batch", source=source.name, received_at=NOW, limits=limits, scrub=scrub)
    for rejection in accepted.rejections:
        return _Refused(rejection.record.code, rejection.record.message)
    stored = _decode(accepted.events[0].data)
    stored.event["person_id"] = whole.get("person_id", GIVEN["person_id"])
    return stored


def _mistakes(router: Router, test: TestConfig, arrived: Sequence[StoredEvent | _Refused]) -> Iterator[Mistake]:
    names = [WAREHOUSE, *router.destinations] if WAREHOUSE in test.expect else list(router.destinations)
    if WAREHOUSE not in names or not isinstance(test.expect[WAREHOUSE], str | None):
        for number, one in enumerate(arrived, 1):
            if isinstance(one, _Refused) and one.why:
                which = "the event" if len(arrived) == 1 else f"event {number}"
                yield Mistake("", f"the collector refuses {which}: {one.why} ({one.code})")
                names = []  # what they get says nothing
    for name in names:
        yield from _compare(test, name, [_outcome(router, one, name) for one in arrived])


def _outcome(router: Router, one: StoredEvent | _Refused, name: str) -> Outcome:
    if isinstance(one, _Refused):
        return Outcome(MISSING, one.code)
    return Outcome(one.event) if name == WAREHOUSE else outcome_of(router, one, name)


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
