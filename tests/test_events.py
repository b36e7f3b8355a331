"""events.py: identities, shards and keys, the same on every machine and in every version."""

from __future__ import annotations

import msgspec
import pytest

from eventrouter.events import StoredEvent, event_digest, event_name, idempotency_key, lane_key, order_key, shard_of


@pytest.mark.parametrize(
    ("event", "key"),
    [
        ({"anonymousId": "a", "userId": "u"}, "a"),
        ({"userId": "u"}, "u"),
        ({"anonymousId": "", "userId": "u"}, "u"),
        ({"anonymousId": None}, ""),
    ],
)
def test_the_order_key_is_the_anonymous_id_else_the_user_id(event: dict[str, str], key: str) -> None:
    assert order_key(event) == key


@pytest.mark.parametrize(
    ("event", "name"),
    [
        ({"type": "track", "event": "Paid"}, "Paid"),
        ({"type": "page", "name": "Home"}, "Home"),
        ({"type": "identify"}, None),
        ({"type": "page", "event": 5, "name": "Home"}, "Home"),
        ({"type": "page", "event": {"a": 1}}, None),
        ({"type": "identify", "name": ["Ada"], "event": True}, None),
        ({"type": "screen", "name": ""}, None),
    ],
)
def test_a_name_is_that_of_a_track_event_or_of_a_page(event: dict[str, str], name: str | None) -> None:
    assert event_name(event) == name


def test_shards_never_change_for_a_key() -> None:
    assert [shard_of(key, 4) for key in ("a", "b", "visitor-1", "ünï", "")] == [3, 1, 0, 2, 0]


def test_lane_keys_are_short_whatever_the_id() -> None:
    assert {len(lane_key(key)) for key in ("", "a", "x" * 100_000, "\ud800")} == {16}


def test_digests_tell_sources_apart() -> None:
    assert event_digest("a", "b:c") != event_digest("a:b", "c")
    assert len(event_digest("a", "b")) == 12


def test_an_idempotency_key_is_the_same_for_ever_and_safe_in_a_header() -> None:
    assert idempotency_key("website", "m-1\r\n", "crm") == idempotency_key("website", "m-1\r\n", "crm")
    assert (
        len({idempotency_key(*parts) for parts in (("a", "b", "c"), ("a", "b", "d"), ("a", "x", "c"), ("z", "b", "c"))})
        == 4
    )
    assert idempotency_key("website", "m-1\r\n", "crm").removeprefix("msg_").isalnum()


def test_a_stored_event_is_a_pair_on_the_wire_and_may_have_the_context_of_its_trace() -> None:
    plain, traced = (
        msgspec.json.decode(data, type=StoredEvent)
        for data in (b'["website",{"messageId":"m"}]', b'["website",{"messageId":"m"},"00-1-2-01"]')
    )
    assert (plain.message_id, plain.traceparent) == ("m", "")
    assert (traced.message_id, traced.traceparent) == ("m", "00-1-2-01")
