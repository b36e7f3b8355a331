"""What a client was told, against what the warehouse holds: every field of the events and of their rows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from system import System

Event = dict[str, Any]
Label = tuple[str, Any]

OURS = "person_id"
"""What the system adds to every event."""

TIMES = ("timestamp", "originalTimestamp", "sentAt", "receivedAt")
COLUMNS = {
    "anonymous_id": "anonymousId",
    "user_id": "userId",
    "timestamp": "timestamp",
    "original_timestamp": "originalTimestamp",
    "sent_at": "sentAt",
    "received_at": "receivedAt",
}
"""The columns of every typed table, and where they come from."""

MILLISECOND = timedelta(milliseconds=1)


def label(event: Event) -> Label:
    """What tells the events of one test apart: their type, and their name where they have one."""
    return event["type"], event.get("event") or event.get("name") or event.get("groupId") or event.get("previousId")


class Source(NamedTuple):
    """A source of the running system that only one test writes to."""

    system: System
    name: str

    @property
    def key(self) -> str:
        """Its write key."""
        return f"key-{self.name}"

    def events(self, count: int) -> list[Event]:
        """All its events in the warehouse, once there are `count`; more are a failure."""
        rows = self.system.rows(count, "SELECT payload FROM events WHERE source = ?", self.name)
        return [json.loads(row["payload"]) for row in rows]

    def has(self, told: Sequence[Event], *, since: datetime, made_up: Sequence[str] = ()) -> dict[Label, Event]:
        """Fails unless the source's events are exactly those in `told`, in every field, in every table.

        An event in `told` is what shall arrive, as JSON values. `messageId` and `timestamp` (a datetime) are left out
        where the client had to make them up: then they have to be good ones. The client sent after `since` (UTC).
        `made_up` are dotted names of further fields that the client fills by itself: they have to be there.
        """
        found = {label(event): event for event in self.events(len(told))}
        expected = {label(event): _told(event) for event in told}
        assert len(expected) == len(told), "two events of one label"
        arrived = {name: _told(event) for name, event in found.items()}
        for name, event in arrived.items():
            for path in made_up:
                assert _take(event, path) not in (None, ""), (name, path)
            if "messageId" not in next((one for one in told if label(one) == name), {}):
                assert re.fullmatch(r"[\w-]{20,100}", event.pop("messageId")), name
        changes = list(differences(expected, arrived))
        assert not changes, "\n".join(changes)
        assert len({event["messageId"] for event in found.values()}) == len(told)
        for event in told:
            check_times(found[label(event)], event.get("timestamp"), since)
        self.check_rows(list(found.values()))
        return found

    def check_rows(self, events: Sequence[Event]) -> None:
        """Fails unless each event's rows hold what it says, column by column, and nothing else."""
        for event in events:
            assert self._row("events", event) == {
                "id": event["messageId"],
                "source": self.name,
                "type": event["type"],
                "anonymous_id": event.get("anonymousId"),
                "user_id": event.get("userId"),
                "received_at": event["receivedAt"],
                "timestamp": event["timestamp"],
                OURS: event[OURS],
            }
            for table, expected in typed_rows(event).items():
                key = "id" if table not in ("users", "accounts") else None
                row = self._typed(table, expected["id"], by_source=key is not None)
                assert row == (expected | {"source_name": self.name} if key else expected), (table, label(event))
        lost = self.system.sql("SELECT * FROM discarded_values WHERE source = ?", self.name)
        assert lost == []

    def _row(self, table: str, event: Event) -> dict[str, Any]:
        [row] = self.system.sql(f"SELECT * FROM {table} WHERE id = ? AND source = ?", event["messageId"], self.name)
        del row["payload"], row["rules"]
        return row

    def _typed(self, table: str, id_: str, *, by_source: bool) -> dict[str, Any]:
        found = self.system.sql(f'SELECT * FROM "{table}" WHERE id = ?', id_)
        found = [row for row in found if not by_source or row["source_name"] == self.name]
        assert len(found) == 1, (table, id_, found)
        row = {column: value for column, value in found[0].items() if value is not None}
        assert row.pop("uuid_ts") >= row["received_at"]
        return row


def check_times(event: Event, told: datetime | None, since: datetime) -> None:
    """Fails unless the event's times are what they have to be; `told` is when the client was told that it happened."""
    times = {name: datetime.fromisoformat(event[name]) for name in TIMES}
    timestamp, original, sent, received = times.values()
    assert since - MILLISECOND <= sent <= received <= datetime.now(UTC)
    if told is not None and original != told:
        # A client that sends both: when it was told, and when that was.
        assert (timestamp, since - MILLISECOND <= original <= sent) == (told, True)
        return
    assert told is not None or since - MILLISECOND <= original <= sent
    assert abs(timestamp - (received - (sent - original))) <= MILLISECOND


def typed_rows(event: Event) -> dict[str, dict[str, Any]]:
    """The rows of the typed tables that an event makes, without what is NULL, by table."""
    base = {"id": event["messageId"]}
    base |= {column: event[name] for column, name in COLUMNS.items() if event.get(name) is not None}
    context = flatten(event.get("context", {}), "context_")
    properties, traits = flatten(event.get("properties", {})), flatten(event.get("traits", {}))
    named = {name: event[name] for name in ("name", "category") if event.get(name) is not None}
    match event["type"]:
        case "track":
            table = snake(event["event"])
            names = {"event": table, "event_text": event["event"]}
            return {"tracks": base | names | context, table: base | names | context | properties}
        case "page" | "screen" as type_:
            return {f"{type_}s": base | context | properties | named}
        case "identify":
            rows = {"identifies": base | context | traits}
            if "userId" in event:
                rows["users"] = _current(event["userId"], base) | context | traits
            return rows
        case "group":
            group = base | {"group_id": event["groupId"]} | context | traits
            return {"groups": group, "accounts": _current(event["groupId"], base) | context | traits}
        case "alias":
            return {"aliases": base | {"previous_id": event["previousId"]} | context}
    raise AssertionError(event["type"])


def _current(id_: str, base: dict[str, Any]) -> dict[str, Any]:
    timestamp = min(base["timestamp"], base["received_at"])
    return {"id": id_, "timestamp": timestamp, "received_at": base["received_at"]}


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Column → value of all that is not null, for the plain names that these tests use."""
    columns: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            columns |= flatten(item, f"{prefix}{snake(key)}_")
        elif item is not None:
            columns[prefix + snake(key)] = cell(item)
    return columns


def cell(value: Any) -> Any:
    """A value as SQLite holds it."""
    if isinstance(value, list) or (isinstance(value, int) and not -(2**63) <= value < 2**63):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d", value):
        moment = datetime.fromisoformat(value)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value


def snake(name: str) -> str:
    """`Order Completed`, `camelCase` and `snake_case` in snake_case."""
    return re.sub(r"(?<=[a-zäöü])(?=[A-Z])|[^\w]+", "_", name).lower()


def _told(event: Event) -> Event:
    plain = json.loads(json.dumps(event, default=str))
    return {name: value for name, value in plain.items() if name not in (*TIMES, OURS)}


def _take(event: Event, path: str) -> Any:
    *above, last = path.split(".")
    for name in above:
        event = event.get(name) or {}
    return event.pop(last, None)


def differences(told: Any, arrived: Any, path: str = "") -> Iterator[str]:
    """What is not the same, place by place. True is no 1, and 1 no 1.0."""
    if isinstance(told, dict) and isinstance(arrived, dict):
        for key in {**told, **arrived}:
            where = f"{path}.{key}" if path else str(key)
            yield from differences(told.get(key, "(nothing)"), arrived.get(key, "(nothing)"), where)
    elif json.dumps(told) != json.dumps(arrived):
        yield f"{path}: {told!r} became {arrived!r}"
