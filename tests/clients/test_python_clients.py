"""segment-analytics-python and rudder-sdk-python against a whole system: one host changed, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, NamedTuple

import pytest
from arrivals import Source
from front import Fault, Front
from rudderstack.analytics.client import Client as RudderClient
from rudderstack.analytics.version import VERSION as RUDDER_VERSION
from segment.analytics.client import Client as SegmentClient
from segment.analytics.version import VERSION as SEGMENT_VERSION

HAPPENED = datetime(2026, 3, 29, 1, 30, 0, 123000, tzinfo=UTC)
PAYLOAD = {
    "total": 12.5,
    "tiny": 5e-324,
    "wide": 1.7976931348623157e308,
    "exact": 2**53 - 1,
    "edge": -(2**63),
    "huge": 2**70,
    "paid": True,
    "free": False,
    "nothing": None,
    "empty": "",
    "text": 'Grüße, 世界 😀 \u0001 \u2028 \\ " </script> e\u0301',
    "größe": {"höhe": 1, "tief": {"tiefer": ["a", None, {"b": [[]]}]}},
    "items": [{"sku": "a-1", "price": 9.99}, {"sku": "ß"}, 2**64, 0.1],
    "day": date(2026, 2, 28),
    "at": datetime(2026, 2, 28, 23, 59, 59, 999000, tzinfo=UTC),
}
"""What a caller gives."""

ARRIVES = PAYLOAD | {"day": "2026-02-28", "at": "2026-02-28T23:59:59.999000+00:00"}
"""And what arrives: JSON has no dates."""


class Kind(NamedTuple):
    """One of the two libraries, and what it adds to events of itself."""

    client: Callable[..., Any]
    adds: dict[str, Any]
    version: str
    all_on: dict[str, bool]

    def context(self, **more: Any) -> dict[str, Any]:
        """The context of its events."""
        return {"library": {"name": "analytics-python", "version": self.version}, **more}

    def send(self, source: Source, calls: Callable[[Any], Any], host: str = "", **options: Any) -> list[Any]:
        """Makes `calls` on a client and ends it as its users do; returns the errors that it told."""
        errors: list[Any] = []
        url = host or source.system.url
        options = {"upload_interval": 0.05, **options}
        client = self.client(source.key, host=url, on_error=lambda error, _: errors.append(error), **options)
        calls(client)
        client.shutdown()
        return errors


KINDS = {
    "segment": Kind(SegmentClient, {}, SEGMENT_VERSION, {}),
    "rudder": Kind(RudderClient, {"channel": "server"}, RUDDER_VERSION, {"All": True}),
}


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    """One of the libraries."""
    return KINDS[request.param]


@pytest.mark.parametrize("gzip", [False, True])
def test_every_field_of_every_call_arrives(kind: Kind, source: Source, now: datetime, gzip: bool) -> None:
    user, group, visitor = f"{source.name}-user", f"{source.name}-group", f"{source.name}-visitor"
    context = {"ip": "203.0.113.7", "locale": "de-DE", "page": {"url": "https://shop.example/?q=ü"}}
    traits = {"email": "ä@example.com", "name": "Zoë", "age": 30, "address": {"city": "Köln"}}

    def calls(client: Any) -> None:
        client.identify(user, traits, anonymous_id=visitor, context={"locale": "de-DE"})
        client.track(user, "Order Completed", PAYLOAD, context, HAPPENED, visitor, {"All": False, "Acme": {"a": [1]}})
        client.page(user, "Docs", "Home", {"url": "https://shop.example/", "title": "Über"}, anonymous_id=visitor)
        client.screen(anonymous_id=visitor, name="Main")
        client.group(user, group, {"plan": "pro", "seats": 2**53 - 1}, anonymous_id=visitor)
        client.alias(visitor, user)

    assert kind.send(source, calls, gzip=gzip) == []
    # RudderStack's library puts a user's traits into the context; they arrive where Segment's are, too.
    of_user = {"traits": traits} if kind.adds else {}
    told = [
        {"type": "identify", "traits": traits, "context": kind.context(locale="de-DE", **of_user)},
        {
            "type": "track",
            "event": "Order Completed",
            "properties": ARRIVES,
            "context": kind.context(**context),
            "integrations": {"All": False, "Acme": {"a": [1]}},
            "timestamp": HAPPENED,
        },
        {
            "type": "page",
            "name": "Home",
            "category": "Docs",
            "properties": {"url": "https://shop.example/", "title": "Über"},
        },
        {"type": "screen", "name": "Main", "category": None, "properties": {}},
        {"type": "group", "groupId": group, "traits": {"plan": "pro", "seats": 2**53 - 1}},
        {"type": "alias", "previousId": visitor},
    ]
    for event in told:
        event.setdefault("context", kind.context())
        event.setdefault("integrations", kind.all_on)
        event |= kind.adds
        if event["type"] != "screen":
            event["userId"] = user
        if event["type"] != "alias":
            event["anonymousId"] = visitor
    found = source.has(told, since=now)
    people = source.system.sql("SELECT DISTINCT person_id FROM resolved_events WHERE source = ?", source.name)
    assert len(people) == 1, found


def test_ids_of_any_kind_and_ids_that_are_not_there(kind: Kind, source: Source, now: datetime) -> None:
    def calls(client: Any) -> None:
        client.track(42, "Number", message_id="a-1")
        client.track("ключ-😀", "Unicode", message_id="ю-2")
        client.track(None, "Anonymous", anonymous_id=7, message_id="a-3")
        client.track("", "Empty", anonymous_id="visitor", message_id="a-4")

    assert kind.send(source, calls) == []
    ids = [
        ("Number", "a-1", {"userId": "42"}),
        ("Unicode", "ю-2", {"userId": "ключ-😀"}),
        ("Anonymous", "a-3", {"anonymousId": "7"}),
        ("Empty", "a-4", {"anonymousId": "visitor"}),
    ]
    common = {"type": "track", "properties": {}, "context": kind.context(), "integrations": kind.all_on, **kind.adds}
    told = [{"event": name, "messageId": message_id, **who, **common} for name, message_id, who in ids]
    source.has(told, since=now)


def test_times_of_every_zone_are_one_time(kind: Kind, source: Source, now: datetime) -> None:
    zone = timezone(timedelta(hours=5, minutes=45))
    times = {"Aware": datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=zone), "Old": datetime(1999, 12, 31, tzinfo=UTC)}
    assert kind.send(source, lambda client: [client.track("u", name, timestamp=at) for name, at in times.items()]) == []
    common = {"type": "track", "properties": {}, "context": kind.context(), "integrations": kind.all_on, **kind.adds}
    source.has([{"event": name, "userId": "u", "timestamp": at, **common} for name, at in times.items()], since=now)


def test_large_batches_arrive_once_each_and_whole(kind: Kind, source: Source) -> None:
    def calls(client: Any) -> None:
        for number in range(600):
            client.track(f"u{number % 7}", "Many", {"number": number, "text": f"ü{number}" * 100})

    assert kind.send(source, calls, upload_size=200, upload_interval=0.5) == []
    found = sorted((event["properties"] for event in source.events(600)), key=lambda one: one["number"])
    assert found == [{"number": number, "text": f"ü{number}" * 100} for number in range(600)]


@pytest.mark.parametrize("fault", [Fault(503), Fault(503, retry_after="1"), Fault(), Fault(after=True)])
def test_a_failed_request_is_repeated_and_arrives_once(kind: Kind, source: Source, front: Front, fault: Fault) -> None:
    front.faults.append(fault)
    duplicates = source.system.count("events_duplicates_total")

    def calls(client: Any) -> None:
        client.track("u", "First")
        client.track("u", "Second")
        client.flush()
        front.until_posts(2)  # some of a library's retries do not outlive its end

    assert kind.send(source, calls, front.url) == []
    assert sorted(event["event"] for event in source.events(2)) == ["First", "Second"]
    assert (front.posts, front.taken) == (2, 1 + fault.after)
    if fault.after:
        source.system.until_count(duplicates + 2, "events_duplicates_total")
        source.events(2)


@pytest.mark.parametrize(("status", "code", "key"), [(401, "unknown_write_key", "wrong"), (400, "empty_batch", "")])
def test_a_refusal_is_told_once_and_is_the_end_of_it(
    kind: Kind, source: Source, front: Front, status: int, code: str, key: str
) -> None:
    errors: list[Any] = []
    client = kind.client(
        key or source.key, host=front.url, on_error=lambda error, _: errors.append(error), upload_interval=0.05
    )
    if key:
        client.track("u", "Refused")
        client.flush()
    else:
        [consumer] = client.consumers
        try:
            consumer.request([])
        except Exception as error:
            errors.append(error)
    assert [(error.status, error.code) for error in errors] == [(status, code)]
    assert "key-" not in errors[0].message
    client.shutdown()
    assert front.posts == 1


def test_a_bad_event_costs_no_neighbour_and_no_repeat(kind: Kind, source: Source, front: Front) -> None:
    def calls(client: Any) -> None:
        client.track("u", "Before")
        client.track("u", " ")
        client.track("u", "After", {"rate": float("nan")})
        client.flush()

    assert kind.send(source, calls, front.url, upload_size=3) == []
    assert sorted(event["event"] for event in source.events(2)) == ["After", "Before"]
    [refused] = source.system.rows(1, "SELECT code FROM rejected_events WHERE source = ?", source.name)
    assert refused["code"] == "event_not_defined"
    assert front.posts == 1
