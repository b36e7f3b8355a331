"""poison.py: what a batch that fails as a whole is suspected of, and when."""

from __future__ import annotations

import pytest
import time_machine

from deliver_kit import hand_of
from eventrouter.delivery import Tries, in_hand
from eventrouter.errors import Retry
from eventrouter.poison import (
    DESPITE,
    PINNED_SECONDS,
    SECONDS,
    TRIES,
    blames,
    has_failed_often,
    is_suspected,
    note_failure,
    suspect,
)

NOW = 1_800_000_000.0


@pytest.fixture
def clock():
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


@pytest.mark.parametrize(
    ("failure", "may_be_its_own"),
    [
        (Retry("HTTP 500", status=500), True),
        (Retry("no answer within 30 s"), True),
        (Retry("HTTP 503", status=503, everyone=True), True),
        (Retry("HTTP 429", status=429, everyone=True), False),
        (Retry("cannot connect", everyone=True), False),
    ],
)
def test_a_rate_limit_and_a_refused_connection_are_nobodys_doing(failure, may_be_its_own):
    assert may_be_its_own == blames(failure)


def test_a_failure_is_noted_of_each_and_goes_with_the_items(clock):
    hands = [hand_of("a"), hand_of("b")]
    assert note_failure(hands, 0) is False
    clock.shift(5)
    assert note_failure(hands, 0) is False
    expected = Tries(first_ms=int(NOW * 1000), last_ms=int(NOW * 1000) + 5000, together=2)
    assert [expected] * 2 == [in_hand(hand.item, "crm").tries for hand in hands]


def test_it_is_told_when_others_were_taken_since_the_failure_before(clock):
    [hand] = hands = [hand_of("a")]
    assert note_failure(hands, int(NOW * 1000) - 1) is False  # it has not failed before
    clock.shift(5)
    assert note_failure(hands, int(NOW * 1000) - 1) is False  # they were taken before it failed
    clock.shift(5)
    assert note_failure(hands, int(NOW * 1000) + 6000) is True
    assert (3, 1) == (hand.tries.together, hand.tries.despite)


@pytest.mark.parametrize(
    ("together", "seconds", "suspected"),
    [(TRIES, SECONDS, True), (TRIES - 1, SECONDS, False), (TRIES, SECONDS - 1, False), (0, SECONDS, False)],
)
def test_a_batch_is_suspected_after_enough_failures_in_enough_time(clock, together, seconds, suspected):
    hand = hand_of("a", together=together, first_ms=int((NOW - seconds) * 1000))
    assert suspected == is_suspected(hand, pinned=False)


@pytest.mark.parametrize(
    ("despite", "seconds", "suspected"),
    [
        (DESPITE, SECONDS, True),
        (DESPITE, SECONDS - 1, False),
        (DESPITE - 1, PINNED_SECONDS - 1, False),
        (0, PINNED_SECONDS, True),
    ],
)
def test_one_that_must_be_repeated_as_it_is_has_to_fail_although_others_are_taken(clock, despite, seconds, suspected):
    hand = hand_of("a", together=TRIES, despite=despite, first_ms=int((NOW - seconds) * 1000))
    assert suspected == is_suspected(hand, pinned=True)


@pytest.mark.parametrize("pinned", [False, True])
def test_what_was_refused_and_could_not_be_searched_is_suspected_at_once_unless_it_is_pinned(pinned):
    [hand] = hands = [hand_of("a")]
    suspect(hands)
    assert is_suspected(hand, pinned=pinned) is not pinned
    assert in_hand(hand.item, "crm").tries == Tries(suspected=True)


def test_a_batch_that_failed_again_and_again_is_a_bad_probe():
    assert [False, True] == [has_failed_often([hand_of("a"), hand_of("b", together=n)]) for n in (TRIES - 1, TRIES)]
