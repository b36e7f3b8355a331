"""Enrichments, one after the other: what fails harms no event, and is counted."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from eventrouter.config_model import EnrichmentConfig
from eventrouter.enrichment import Enrichment
from eventrouter.enrichments import Enrichments, patched
from eventrouter.errors import Retry
from eventrouter.events import StoredEvent
from eventrouter.records import Identity


def event(number: int = 1, **fields: Any) -> StoredEvent:
    body = {
        "type": "track",
        "messageId": f"m{number}",
        "anonymousId": "anna",
        "timestamp": "2026-11-24T17:00:00.000Z",
        "receivedAt": "2026-11-24T17:00:01.000Z",
        "properties": {"total": 2**70},
    }
    return StoredEvent("web", {**body, **fields})


RECORD = Identity(type="user_id", value="u", person_id="p", seq=1, seen_at="now")


class Step(Enrichment):
    """Does to the events what a test says."""

    name = "step"

    def __init__(
        self, act: Callable[[Any], Any] = lambda _: [], *, required: bool = False, breaks: tuple[str, ...] = ()
    ) -> None:
        super().__init__(self.Options())
        self.act = act
        self.required = required  # type: ignore[misc]
        self.breaks = breaks
        self.told: list[str] = []

    def _tell(self, what: str) -> None:
        self.told.append(what)
        if what in self.breaks:
            raise ZeroDivisionError(what)

    async def start(self) -> None:
        self._tell("start")

    async def close(self) -> None:
        self._tell("close")

    async def enrich(self, shard, events):
        self._tell("enrich")
        found = self.act(events)
        return await found if asyncio.iscoroutine(found) else found

    async def settled(self, shard: int) -> None:
        self._tell("settled")


async def run(*steps: Enrichment, events: list[StoredEvent] | None = None, patience: float = 5.0):
    return await Enrichments(steps, patience=patience).run(0, events or [event(1), event(2)])


def note(field: str, value: Any = True, records: Any = ()) -> Callable[[Any], Any]:
    def act(events):
        for one in events:
            one.event[field] = value
        return records

    return act


@pytest.mark.parametrize("required", [True, False])
async def test_what_each_one_adds_is_seen_by_the_next_and_records_are_gathered(required):
    seen: list[Any] = []
    first = Step(note("person_id", "p", [RECORD]), required=required)
    second = Step(lambda events: seen.extend(one.event["person_id"] for one in events) or [RECORD])
    events, records, counts = await run(first, second)
    assert (["p", "p"], [RECORD, RECORD], Counter()) == (seen, records, counts)
    assert [event(1, person_id="p"), event(2, person_id="p")] == events


async def test_without_enrichments_events_go_on_as_they_are():
    events = [event(1)]
    assert (events, [], Counter()) == await run(events=events)


# what fails


def half_a_change(events):
    events[0].event["half"] = True
    raise ZeroDivisionError("in the middle")


async def hang(events):
    events[0].event["half"] = True
    await asyncio.sleep(60)


def lose_one(events):
    events.pop()
    return []


def double_one(events):
    events.append(events[0])
    return []


def turn_around(events):
    events.reverse()
    return []


def clear(field):
    def act(events):
        del events[1].event[field]
        return []

    return act


HARM: dict[str, Callable[[Any], Any]] = {
    "raises": half_a_change,
    "hangs": hang,
    "puts what can't be stored": note("half", object()),
    "puts text that is none": note("half", "\ud800"),
    "puts a circle": lambda events: events[0].event.update(half=events[0].event) or [],
    "returns nothing": note("half", records=None),
    "returns what is no record": note("half", records=[object()]),
    "returns a foreign record": note("half", records=[{"record": "nonsense"}]),
    "returns a record that can't be stored": note(
        "half",
        records=[Identity(type="t", value=object(), person_id="p", seq=1, seen_at="now")],  # type: ignore[arg-type]
    ),
    "loses an event": lose_one,
    "doubles an event": double_one,
    "changes the order": turn_around,
    "renames an event": note("messageId", "m9"),
    "changes an event's type": note("type", "identify"),
    "takes an event's time": clear("timestamp"),
    "takes when it came": clear("receivedAt"),
    "takes an event's ids": clear("anonymousId"),
    "puts no text as a time": note("timestamp", None),
    "puts no text as a person": note("person_id", 5),
    "replaces an event": lambda events: events.__setitem__(0, "nonsense") or [],
}


@pytest.mark.parametrize("harm", HARM)
async def test_events_go_on_unchanged_by_one_that(harm, monkeypatch):
    before = [event(1), event(2)]
    after = Step(note("after"))
    events, records, counts = await run(Step(HARM[harm]), after, events=before, patience=0.1)
    assert [event(1, after=True), event(2, after=True)] == events
    assert ([], {"enrichment_failed:step": 2}) == (records, dict(counts))


ENDS = [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()]
"""What a plugin may raise that would end more than itself."""


@pytest.mark.parametrize("error", ENDS)
async def test_one_that_would_end_the_worker_or_the_turn_does_not(error):
    def end(*_):
        raise error

    failing = Patch(end)
    events, _, counts = await run(Step(end), failing, events=[event(1)])
    assert ([event(1)], {"enrichment_failed:step": 1, f"enrichment_failed:{failing.name}": 1}) == (events, dict(counts))
    steps = [Step(), Step()]
    steps[0]._tell = end
    all_of_them = Enrichments(steps, patience=5.0)
    await all_of_them.start()
    await all_of_them.settled(0)
    await all_of_them.close()
    assert ["start", "settled", "close"] == steps[1].told


# patches


class Patch(Enrichment):
    """Answers each event as a test says."""

    name = "patch"

    def __init__(self, answer: Callable[[Any], Any], *, required: bool = False) -> None:
        super().__init__(self.Options())
        self.answer = answer
        self.required = required  # type: ignore[misc]

    def patch(self, event):
        return self.answer(event)


@pytest.mark.parametrize("required", [True, False])
async def test_a_patch_is_merged_into_its_event_and_seen_by_the_next(required):
    first = Patch(lambda one: {"context": {"id": one["messageId"]}, "properties": {"total": None}}, required=required)
    second = Patch(lambda one: {"context": {"again": one["context"]["id"]}})
    third = Step(lambda events: [one.event["context"].update(third=True) for one in events] and [RECORD])
    events, records, counts = await run(first, second, third)
    assert ([RECORD], Counter()) == (records, counts)
    assert [
        event(number, properties={}, context={"id": f"m{number}", "again": f"m{number}", "third": True})
        for number in (1, 2)
    ] == events


@pytest.mark.parametrize("nothing", [None, {}])
async def test_an_event_without_a_patch_stays_as_it_is(nothing):
    assert ([event(1)], [], Counter()) == await run(Patch(lambda one: nothing), events=[event(1)])


async def test_one_patch_may_be_used_for_many_events():
    same = {"context": {"os": {"name": "Linux"}}}
    steps = Patch(lambda one: same), Patch(lambda one: {"context": {"os": {one["messageId"]: True}}})
    events, _, _ = await run(*steps)
    assert [{"name": "Linux", "m1": True}, {"name": "Linux", "m2": True}] == [
        one.event["context"]["os"] for one in events
    ]


def break_for_the_first(event):
    if event["messageId"] == "m1":
        raise ZeroDivisionError("half way")
    return {"good": True}


BAD_PATCHES: dict[str, Any] = {
    "no object": [1],
    "no JSON": {"context": {"ok": 1, "half": object()}},
    "a text that is none": {"half": "\ud800"},
    "another id": {"messageId": "m9"},
    "no id": {"messageId": None},
    "another type": {"type": "page"},
    "another order key": {"anonymousId": "b"},
    "another person": {"person_id": "p"},
    "no time": {"timestamp": None},
}


@pytest.mark.parametrize("bad", BAD_PATCHES)
async def test_a_bad_patch_costs_its_one_event_that_enrichment_and_no_more(bad):
    step = Patch(lambda one: BAD_PATCHES[bad] if one["messageId"] == "m1" else {"good": True})
    events, _, counts = await run(step, Patch(lambda one: {"after": True}))
    assert [event(1, after=True), event(2, good=True, after=True)] == events
    assert {"enrichment_failed:patch": 1} == counts


async def test_an_error_for_one_event_costs_no_other():
    events, _, counts = await run(Patch(break_for_the_first))
    assert ([event(1), event(2, good=True)], {"enrichment_failed:patch": 1}) == (events, counts)


@pytest.mark.parametrize("bad", [break_for_the_first, lambda one: {"userId": "u"}])
async def test_when_a_required_one_fails_for_an_event_routing_has_to_wait(bad):
    with pytest.raises(Retry, match=r"^patch: "):
        await run(Patch(bad, required=True))


async def test_patches_that_take_long_let_others_in_and_end_in_time():
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    def slow(one):
        time.sleep(0.001)
        return {"good": True}

    other = asyncio.create_task(tick())
    events, _, counts = await run(Patch(slow), events=[event(n) for n in range(1000)], patience=0.3)
    other.cancel()
    patched = sum("good" in one.event for one in events)
    assert (1000 - patched, True) == (counts["enrichment_failed:patch"], 0 < patched < 1000)
    assert ticks > 3


async def test_a_required_one_that_takes_too_long_makes_routing_wait():
    with pytest.raises(Retry, match="TimeoutError"):
        await run(
            Patch(lambda one: time.sleep(0.001), required=True), events=[event(n) for n in range(400)], patience=0.1
        )


async def test_what_one_changes_after_it_failed_changes_nothing():
    kept: list[Any] = []

    def act(events):
        kept.extend(events)
        raise ZeroDivisionError

    events, _, _ = await run(Step(act), events=[event(1)])
    kept[0].event["late"] = True
    assert [event(1)] == events


@pytest.mark.parametrize(
    ("error", "reason", "after"),
    [
        (Retry("away", after=7), "away", 7),
        (Retry("away"), "away", None),
        (ZeroDivisionError("oops"), "step: ZeroDivisionError: oops", 5.0),
        (TimeoutError(), "step: TimeoutError", 5.0),
        (SystemExit(3), "step: SystemExit: 3", 5.0),
        (asyncio.CancelledError(), "step: CancelledError", 5.0),
    ],
)
async def test_when_a_required_one_fails_routing_has_to_wait(error, reason, after):
    def act(events):
        raise error

    with pytest.raises(Retry) as waits:
        await run(Step(act, required=True))
    assert (reason, after) == (str(waits.value), waits.value.after)


async def test_a_required_one_that_hangs_makes_routing_wait_and_no_longer():
    with pytest.raises(Retry, match="TimeoutError"):
        await run(Step(hang, required=True), patience=0.05)


async def test_a_worker_that_ends_is_not_held_up():
    task = asyncio.create_task(run(Step(hang)))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_one_event_gets_what_patches_add_and_nobody_else_is_asked():
    class Marked(Patch):
        def __init__(self, options):
            super().__init__(lambda one: {"good": True})

    class Asking(Step):
        pass

    options = Enrichment.Options()
    configured = [EnrichmentConfig(cls.name, options, cls) for cls in (Asking, Marked)]
    assert event(1, good=True) == await patched(configured, event(1))


# from start to close


async def test_one_that_cannot_start_is_left_out_unless_it_is_required():
    left_out, required = Step(breaks=("start",)), Step(breaks=("start",), required=True)
    enrichments = Enrichments([left_out, required, last := Step()])
    await enrichments.start()
    _, _, counts = await enrichments.run(0, [event(1), event(2)])
    await enrichments.settled(0)
    await enrichments.close()
    assert {"enrichment_failed:step": 2} == counts
    assert ["start"] == left_out.told
    assert ["start", "enrich", "settled", "close"] == required.told == last.told


async def test_others_take_over_at_the_next_batch_and_what_stays_is_not_started_again():
    held = asyncio.Event()

    async def hold(_):
        await held.wait()
        return []

    gone, stays, fresh = Step(hold), Step(), Step()
    enrichments = Enrichments([gone, stays])
    await enrichments.start()
    batch = asyncio.create_task(enrichments.run(0, [event()]))
    await asyncio.sleep(0.01)
    await enrichments.use([fresh, stays])
    await enrichments.run(1, [event()])
    assert ["start", "enrich"] == gone.told == fresh.told
    held.set()
    await batch
    await enrichments.close()
    assert ["start", "enrich", "close"] == gone.told == fresh.told
    assert ["start", "enrich", "enrich", "close"] == stays.told


async def test_one_that_hangs_at_its_start_holds_nothing_up():
    class Slow(Step):
        async def start(self):
            await asyncio.sleep(60)

    enrichments = Enrichments([slow := Slow()], patience=0.05)
    await enrichments.start()
    assert ([event()], [], {"enrichment_failed:step": 1}) == await enrichments.run(0, [event()])
    assert [] == slow.told


@pytest.mark.parametrize("what", ["settled", "close"])
async def test_one_that_fails_to_settle_or_to_close_keeps_no_other_from_it(what):
    steps = [Step(breaks=(what,)), Step()]
    enrichments = Enrichments(steps)
    await enrichments.settled(0)
    await enrichments.close()
    assert ["settled", "close"] == steps[0].told == steps[1].told
