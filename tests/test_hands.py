"""What a turn has in hand: how much it may read, what is taken next, and that no key overtakes itself."""

from __future__ import annotations

import asyncio

import pytest

from deliver_kit import delivery, item_of
from eventrouter import poison
from eventrouter.delivery import InHand, Tries, in_hand
from eventrouter.errors import Retry
from eventrouter.events import lane_key
from eventrouter.hands import Hands
from eventrouter.target import Policy
from eventrouter.verdict import Verdict


def hand(message_id: str, key: str = "", *, parked: bool = False, payload: object = None) -> InHand:
    one = in_hand(item_of(delivery(message_id, payload=payload), key or message_id), "crm")
    one.item.parked = parked
    return one


def hands_of(*hands: InHand, **policy: object) -> Hands:
    found = Hands(Policy(**{"batch_size": 2, "concurrency": 2, **policy}))  # type: ignore[arg-type]
    for one in hands:
        found.add(one)
    return found


def ids(hands: object) -> list[str]:
    return [one.messages[0].message_id for one in hands]  # type: ignore[attr-defined]


async def ends_with(verdict: Verdict) -> Verdict:
    return verdict


# how much


def test_what_waits_and_what_is_pinned_leaves_less_room():
    policy = Policy(batch_size=2, concurrency=2, read_bytes=100_000)
    hands = Hands(policy)
    assert (policy.read_units, 100_000) == hands.room()
    one, other = hand("a"), hand("b")
    hands.add(one)
    hands.repeat([[other]])
    size = len(one.item.data) + len(other.item.data)
    assert (policy.read_units - 2, 100_000 - size) == hands.room()


async def test_what_is_under_way_leaves_less_room_until_it_has_ended():
    hands = hands_of()
    units, size = hands.room()
    one = hand("a")
    hands.add(one)
    hands.start(hands.take(), ends_with(Verdict()))
    assert (units - 1, size - len(one.item.data)) == hands.room()
    await asyncio.wait(set(hands.tasks))
    hands.ended()
    assert (units, size) == hands.room()


@pytest.mark.parametrize("pin", [False, True])
async def test_there_is_all_the_room_again_once_nothing_is_in_hand(pin):
    hands = hands_of(pin=pin, batch_size=3, concurrency=1)
    before = hands.room()
    for number in range(9):
        hands.add(hand(str(number), "abc"[number % 3]))
    while hands.waiting:
        parts = hands.pinned.popleft() if hands.pinned else [hands.take()]
        batch = [one for part in parts for one in part]
        if not batch:
            break
        verdict = Verdict(delivered=batch[:2], untried=batch[2:], repeat=[batch[2:]] if batch[2:] else [])
        pins = {batch[0].item.id: [[one.item.id for one in batch]]} if pin else {}
        hands.start(batch, ends_with(verdict))
        await asyncio.wait(set(hands.tasks))
        [(_, ended)] = hands.ended()
        hands.take_back(verdict, ended, pins)
        hands.drop({"c"})
    assert before == hands.room()


@pytest.mark.parametrize("policy", [{"read_bytes": 500}, {}])
def test_there_is_no_room_when_either_bound_is_used_up(policy):
    number = 1 if policy else Policy(batch_size=2, concurrency=2).read_units
    hands = hands_of(*(hand(str(one), payload="x" * 600) for one in range(number)), **policy)
    assert (0, 0) == hands.room()


def test_what_waits_is_told():
    assert not hands_of().waiting
    assert hands_of(hand("a")).waiting
    hands = hands_of()
    hands.repeat([[hand("a")]])
    assert hands.waiting


# which


def test_batches_are_taken_in_order():
    hands = hands_of(*(hand(one) for one in "abc"))
    assert [["a", "b"], ["c"], []] == [ids(hands.take()) for _ in range(3)]


async def test_nothing_is_taken_whose_key_is_under_way():
    hands = hands_of(hand("a2", "a"), hand("b1", "b"), hand("a3", "a"), hand("c1", "c"))
    hands.start([hand("a1", "a")], ends_with(Verdict()))
    assert ["b1", "c1"] == ids(hands.take())
    assert ([], ["a2", "a3"]) == (ids(hands.take()), ids(hands.pending))
    await asyncio.wait(set(hands.tasks))
    [(_, batch)] = hands.ended()
    assert (["a1"], ["a2", "a3"]) == (ids(batch), ids(hands.take()))


async def test_records_have_no_key_and_wait_for_nothing():
    first, second = hand("a"), hand("b")
    first.item.key = second.item.key = ""
    hands = hands_of(second)
    hands.start([first], ends_with(Verdict()))
    assert ["b"] == ids(hands.take())
    await asyncio.wait(set(hands.tasks))


def test_where_messages_are_answered_one_by_one_a_batch_holds_one_of_each_key():
    hands = hands_of(
        hand("a1", "a"), hand("b1", "b"), hand("a2", "a"), hand("a3", "a"), hand("c1", "c"), batch_size=3, apart=True
    )
    assert [["a1", "b1", "c1"], ["a2"], ["a3"]] == [ids(hands.take()) for _ in range(3)]


def test_records_go_together_in_any_case():
    first, second = hand("a"), hand("b")
    first.item.key = second.item.key = ""
    assert ["a", "b"] == ids(hands_of(first, second, apart=True).take())


def test_where_batches_are_pinned_what_is_parked_goes_by_itself_and_in_order():
    hands = hands_of(
        hand("p1", "p", parked=True),
        hand("a1", "a"),
        hand("q1", "q", parked=True),
        hand("q2", "q"),
        hand("b1", "b"),
        batch_size=5,
        pin=True,
    )
    assert [["p1"], ["a1", "b1"], ["q1"], ["q2"]] == [ids(hands.take()) for _ in range(4)]


def test_a_probe_takes_what_failed_before_last_and_each_key_in_order():
    hands = hands_of(
        hand("p1", "p", parked=True), hand("p2", "p", parked=True), hand("a1", "a"), hand("a2", "a"), batch_size=9
    )
    hands.parked_last()
    assert ["a1", "a2", "p1", "p2"] == ids(hands.take())


def test_what_was_not_tried_is_the_next():
    hands = hands_of(*(hand(one) for one in "abc"))
    batch = hands.take()
    hands.take_back(Verdict(untried=batch), batch, {})
    assert ["a", "b", "c"] == ids(hands.pending)


# what is suspected of poison


def suspect(message_id: str, key: str = "", *, parked: bool = False) -> InHand:
    one = hand(message_id, key, parked=parked)
    one.tries = Tries(together=poison.TRIES, despite=poison.DESPITE, first_ms=1)
    return one


def test_the_suspected_go_one_by_one_and_apart_from_the_others():
    hands = hands_of(suspect("a"), hand("b"), suspect("c"), hand("d"), batch_size=9)
    assert [["a"], ["b", "d"], ["c"]] == [ids(hands.take()) for _ in range(3)]


def test_after_a_success_twice_as_many_go_and_after_a_failure_one_again():
    hands = hands_of(*(suspect(one) for one in "abcdefghij"), batch_size=5)
    taken = []
    for spoilt in (False, False, True, False):
        batch = hands.take()
        taken.append(ids(batch))
        found = (
            Verdict(together=batch, untried=batch, careful=True) if spoilt else Verdict(delivered=batch, careful=True)
        )
        assert {} == hands.take_back(found, batch, {})
    assert [["a"], ["b", "c"], ["d", "e", "f", "g"], ["d"]] == taken
    assert ["e", "f"] == ids(hands.take())


def test_after_a_refusal_that_could_not_be_searched_one_goes():
    hands = hands_of(*(suspect(one) for one in "abcd"), batch_size=5)
    batch = hands.take()
    hands.take_back(Verdict(delivered=batch, careful=True), batch, {})
    batch = hands.take()
    hands.take_back(Verdict(refused=batch, untried=batch, careful=True), batch, {})
    assert ["b"] == ids(hands.take())


def test_nothing_of_a_key_goes_before_its_suspected_sibling():
    hands = hands_of(hand("a"), suspect("b1", "b"), hand("b2", "b"), hand("c"), batch_size=9)
    assert [["a", "c"], ["b1"], ["b2"]] == [ids(hands.take()) for _ in range(3)]


def test_a_parked_delivery_with_which_a_batch_failed_goes_by_itself():
    alone = hand("p", parked=True)
    alone.tries = Tries(together=1)
    hands = hands_of(alone, hand("q", parked=True), hand("a"), batch_size=9)
    assert [["p"], ["q", "a"]] == [ids(hands.take()) for _ in range(2)]


def test_a_batch_that_becomes_suspected_is_left_in_parts_that_are_pinned():
    hands = hands_of(batch_size=9, pin=True)
    batch = [suspect(one) for one in "abcd"]
    for number, one in enumerate(batch):
        one.item.id = f"{number}-0"
    verdict = Verdict(whole=Retry("HTTP 500"), untried=batch, repeat=[batch], together=batch)
    pins = {"pin": [[one.item.id for one in batch]], "other": [["9-0"]]}
    assert {"pin": [["0-0"], ["1-0", "2-0", "3-0"]]} == hands.take_back(verdict, batch, pins)
    assert [[["a"], ["b", "c", "d"]]] == [[ids(part) for part in parts] for parts in hands.pinned]
    first, rest = hands.pinned.popleft()
    verdict = Verdict(delivered=first, untried=rest, repeat=[rest], careful=True)
    pins = {"pin": [["0-0"], ["1-0", "2-0", "3-0"]]}
    assert {"pin": [["1-0", "2-0"], ["3-0"]]} == hands.take_back(verdict, batch, pins)
    assert not hands.pending


def test_what_was_not_tried_of_a_pinned_batch_stays_as_it_is():
    hands = hands_of(batch_size=9, pin=True)
    batch = [suspect(one) for one in "ab"]
    parts = [batch[:1], batch[1:]]
    verdict = Verdict(whole=Retry("cannot connect"), untried=batch, repeat=parts, careful=True)
    pins = {"pin": [[one.item.id] for one in batch]}
    assert pins == hands.take_back(verdict, batch, pins)


def test_a_probe_is_another_delivery_while_the_pinned_batches_fail_again_and_again():
    hands = hands_of(hand("a1", "a"), hand("b", "b"), hand("c", "c"), batch_size=9, pin=True)
    assert [] == hands.another()
    failing = [suspect("x", "x"), suspect("a0", "a")]
    hands.repeat([failing])
    assert ["b"] == ids(hands.another())
    fresh = [hand("y")]
    hands.repeat([fresh])
    assert [] == hands.another()
    assert [[fresh], [failing]] == list(hands.pinned)


def test_what_failed_before_is_no_better_probe():
    hands = hands_of(hand("p", parked=True), batch_size=9, pin=True)
    hands.repeat([[suspect("x")]])
    assert ([], ["p"]) == (hands.another(), ids(hands.pending))


# keys


async def test_siblings_wait_and_are_let_go_when_their_key_is_parked():
    hands = hands_of(hand("a1", "a"), hand("b1", "b"), hand("a2", "a"))
    assert ["a1", "a2"] == ids(hands.siblings(lane_key("a")))
    hands.drop([])
    assert ["a1", "b1", "a2"] == ids(hands.pending)
    hands.drop({lane_key("a")})
    assert ["b1"] == ids(hands.pending)


async def test_parked_keys_in_hand_are_those_under_way_and_those_that_wait():
    hands = hands_of(hand("a1", "a", parked=True), hand("b1", "b"))
    hands.start([hand("c1", "c")], ends_with(Verdict()))
    assert {lane_key("a"), lane_key("c")} == hands.parked_keys()
    await asyncio.wait(set(hands.tasks))


# ends


async def test_only_what_has_ended_is_told():
    gate = asyncio.Event()

    async def later() -> Verdict:
        await gate.wait()
        return Verdict()

    hands = hands_of()
    quick, slow = hand("a"), hand("b")
    verdict = Verdict(delivered=[quick])
    hands.start([quick], ends_with(verdict))
    hands.start([slow], later())
    await asyncio.sleep(0.01)
    assert [(verdict, [quick])] == hands.ended()
    assert [] == hands.ended()
    gate.set()
    await asyncio.wait(set(hands.tasks))
    assert ["b"] == [ids(batch)[0] for _, batch in hands.ended()]


async def test_what_an_attempt_raises_is_raised():
    async def broken() -> Verdict:
        raise ZeroDivisionError("a bug of ours")

    hands = hands_of()
    hands.start([hand("a")], broken())
    await asyncio.sleep(0)
    with pytest.raises(ZeroDivisionError):
        hands.ended()
