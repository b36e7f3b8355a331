"""A delivery as it lies in a lane: exact, readable by neighbours' versions, the same id at every attempt."""

from __future__ import annotations

import msgspec
import pytest

from deliver_kit import delivery, hand_of, item_of
from eventrouter.delivery import FORMAT, dead_letter, decode, encode, in_hand
from eventrouter.events import idempotency_key, lane_key
from eventrouter.lane import Item
from eventrouter.stored import UnreadableError


def test_what_is_stored_comes_back_exactly():
    one = delivery("m1", payload={"big": 12345678901234567890123, "ratio": 0.1, "text": "é\u2028", "nothing": None})
    assert one == decode(encode(one))


@pytest.mark.parametrize("version", [FORMAT - 1, FORMAT + 1])
def test_neighbours_formats_are_read(version):
    assert version == decode(encode(delivery("m1", v=version))).v


@pytest.mark.parametrize("version", [FORMAT - 2, FORMAT + 2])
def test_other_formats_are_refused(version):
    with pytest.raises(msgspec.DecodeError, match="this version reads"):
        decode(encode(delivery("m1", v=version)))


def test_a_field_that_a_later_version_appended_is_passed_over():
    stored = msgspec.json.decode(encode(delivery("m1")))
    assert "m1" == decode(msgspec.json.encode([*stored, "new"])).message_id


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", b"null"])
def test_foreign_data_is_an_error(data):
    with pytest.raises(msgspec.DecodeError):
        decode(data)


def test_what_cannot_be_read_tells_whose_it_is_where_it_can():
    for data, whose in (
        (encode(delivery("m1")).replace(b'"Order Completed"', b"5"), ("m1", "web")),
        (b'[1,2,"web"]', (None, "")),
        (b"nonsense", (None, "")),
    ):
        with pytest.raises(UnreadableError) as caught:
            decode(data)
        assert (data, *whose) == (caught.value.data, caught.value.message_id, caught.value.source)


def test_a_payload_that_is_no_text_cannot_be_read():
    data = encode(delivery("m1", payload={"name": "Eve"})).replace(b"Eve", b"E\xffe")
    with pytest.raises(UnreadableError) as caught:
        decode(data)
    assert (data, "m1", "web") == (caught.value.data, caught.value.message_id, caught.value.source)


def test_tries_that_cannot_be_read_are_forgotten():
    assert 1 == in_hand(item_of(delivery("m1"), tries=b"nonsense"), "crm").messages[0].attempt


def test_a_message_carries_what_a_plugin_needs():
    [message] = in_hand(item_of(delivery("m1", replay=True), "anon"), "crm").messages
    expected = {
        "id": idempotency_key("web", "m1", "crm"),
        "payload": {"n": "m1"},
        "message_id": "m1",
        "source": "web",
        "type": "track",
        "order_key": lane_key("anon"),
        "timestamp": "2026-11-24T17:00:00.000Z",
        "attempt": 1,
        "replay": True,
    }
    assert expected == {name: getattr(message, name) for name in expected}


def test_the_id_is_the_same_at_every_attempt_and_another_for_another_destination():
    first = in_hand(item_of(delivery("m1")), "crm").messages[0]
    again = in_hand(item_of(delivery("m1"), tries=b'{"attempts":1,"made":4}'), "crm").messages[0]
    assert (first.id, 1, 5) == (again.id, first.attempt, again.attempt)
    assert first.id != in_hand(item_of(delivery("m1")), "erp").messages[0].id


def test_what_is_known_of_the_tries_comes_with_it():
    hand = in_hand(item_of(delivery("m1"), tries=b'{"attempts":2,"made":3,"first_ms":5,"last_ms":7}'), "crm")
    assert (2, 3, 5, 7) == (hand.tries.attempts, hand.tries.made, hand.tries.first_ms, hand.tries.last_ms)


def test_what_dies_again_is_later_than_the_dead_letter_that_it_answers_even_by_a_clock_that_is_behind():
    for floor_ms, last_at in ((1_700_000_060_500, "2023-11-14T22:14:20.500Z"), (5, "2023-11-14T22:13:20.000Z")):
        hand = in_hand(item_of(delivery("m1", floor_ms=floor_ms)), "crm")
        letter = dead_letter(hand, "crm", class_="permanent", reason="HTTP 400", now_ms=1_700_000_000_000)
        assert ("2023-11-14T22:13:20.000Z", last_at) == (letter.first_at, letter.last_at)


def test_a_dead_letter_keeps_a_new_key():
    hand = in_hand(item_of(delivery("m1", again="run 1")), "crm")
    assert "run 1" == dead_letter(hand, "crm", class_="permanent", reason="HTTP 400", now_ms=1).again


def test_a_dead_letter_tells_the_whole_story():
    hand = hand_of("m1", attempts=2, made=3, first_ms=1_700_000_000_000, last_ms=1_700_000_060_500)
    letter = dead_letter(hand, "crm", class_="attempts", reason="HTTP 500", now_ms=9, status=500, response="oops")
    expected = {
        "source": "web",
        "message_id": "m1",
        "destination": "crm",
        "route": "orders",
        "class_": "attempts",
        "reason": "HTTP 500",
        "attempts": 3,
        "first_at": "2023-11-14T22:13:20.000Z",
        "last_at": "2023-11-14T22:14:20.500Z",
        "status": 500,
        "response": "oops",
        "traceback": "",
        "payload": '{"n":"m1"}',
        "event_type": "track",
        "event_name": "Order Completed",
        "rules": "abc",
        "again": "",
    }
    assert expected == msgspec.structs.asdict(letter)


def test_a_delivery_that_was_never_tried_is_dated_now():
    letter = dead_letter(hand_of("m1"), "crm", class_="max_age", reason="old", now_ms=1_700_000_000_000)
    assert ("2023-11-14T22:13:20.000Z", 0) == (letter.last_at, letter.attempts)


def test_the_key_of_a_delivery_in_hand_is_its_items():
    assert "k" == in_hand(Item("1-0", False, "k", 1, encode(delivery("m1"))), "crm").key
