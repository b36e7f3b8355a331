"""A destination as the lanes see it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deliver_kit import Sink, hand_of
from eventrouter.attempts import Attempts
from eventrouter.delivery import in_hand
from eventrouter.errors import Reject, Retry
from eventrouter.health import Health
from eventrouter.target import Counts, Policy, Target
from eventrouter.verdict import Verdict


@pytest.fixture
async def target(lanes):
    async def enqueue(claims):
        pass

    sink = Sink()
    health = Health(lanes, "crm", initial=1, max_interval=60)
    yield Target("crm", Policy(), Attempts(sink, 5.0, secrets=("s3cr3t",)), health, in_hand, enqueue)
    await sink.close()


def test_a_failure_is_told_without_secrets_and_cut(target):
    assert "HTTP 401 for **********" == target.mask(Reject("HTTP 401 for s3cr3t"))
    assert 1000 == len(target.mask(Retry("x" * 5000)))


def test_a_failure_without_words_is_told_by_its_kind(target):
    assert ["Retry", "Reject"] == [target.mask(Retry()), target.mask(Reject())]


@pytest.mark.parametrize(("max_age", "seconds", "is_old"), [(60.0, 59, False), (60.0, 61, True), (None, 10**9, False)])
def test_a_delivery_is_too_old_once_it_waited_for_longer_than_it_may(target, max_age, seconds, is_old):
    hand = hand_of("a")
    now = hand.delivery.since_ms + seconds * 1000
    assert is_old == replace(target, policy=Policy(max_age=max_age)).is_too_old(hand, now)


def test_what_is_too_old_tells_what_was_in_its_way(target):
    hand = hand_of("a")
    assert "older than retry.max_age" == target.aged_reason(hand)
    target.health.reason = "HTTP 503"
    assert "older than retry.max_age; what was last in the way: HTTP 503" == target.aged_reason(hand)
    hand.tries.reason = "HTTP 400"
    assert "older than retry.max_age; what was last in the way: HTTP 400" == target.aged_reason(hand)


def test_the_hook_is_told_of_an_attempt_and_of_none_that_was_not_made(target):
    told = []
    target = replace(target, finished=lambda **arguments: told.append(arguments))
    a, b, c = (hand_of(one) for one in "abc")
    failed = [(a, Reject("no s3cr3t", status=422)), (b, Retry("later"))]
    target.tell(Verdict(delivered=[c], failed=failed), 3, 0.5)
    target.tell(Verdict(untried=[a], spoilt=Retry("HTTP 500")), 0, 0.1)
    target.tell(Verdict(untried=[a]), 0, 0.1)
    common = {"destination": "crm"}
    assert told == [
        {**common, "shard": 3, "delivered": 1, "retried": 1, "dead": 1, "seconds": 0.5, "reason": "no **********"},
        {**common, "shard": 0, "delivered": 0, "retried": 1, "dead": 0, "seconds": 0.1, "reason": "HTTP 500"},
    ]


def test_spans_are_made_of_an_attempt_and_of_none_that_was_not_made(target):
    told = []
    target = replace(target, traced=lambda *arguments: told.append(arguments))
    a = hand_of("a")
    made, none = Verdict(untried=[a], whole=Retry("no s3cr3t")), Verdict(untried=[a])
    target.tell(made, 3, 0.5)
    target.tell(none, 3, 0.5)
    assert told == [("crm", 3, made, 0.5, "no **********")]


@pytest.mark.parametrize(("batch_size", "concurrency", "units"), [(1, 1, 500), (1000, 1, 2000), (100, 8, 1600)])
def test_what_a_turn_has_in_hand_is_bounded_and_keeps_its_attempts_busy(batch_size, concurrency, units):
    assert units == Policy(batch_size=batch_size, concurrency=concurrency).read_units


def test_what_a_destination_counted_is_taken_once_and_comes_again_when_it_was_not_kept():
    counted = [{"late": 3}, {"late": 1, "refused": 1}, {}]
    counts = Counts(lambda: counted.pop(0))
    with pytest.raises(OSError), counts.taken() as taken:
        assert {"late": 3} == taken
        raise OSError
    with counts.taken() as taken:
        assert {"late": 4, "refused": 1} == taken
    with counts.taken() as taken:
        assert {} == taken
