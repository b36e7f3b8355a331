"""One batch against a real state database: what is written, and what the warehouse is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventrouter.builtin.identity.graph import Batch
from eventrouter.builtin.identity.resolve import Resolved, resolve
from eventrouter.builtin.identity.sqlite import SqliteStore
from eventrouter.builtin.identity.store import OUTBOX_LIMIT, Loaded
from eventrouter.records import Identity, IdentityMerge

T1 = "2026-11-24T17:00:00.001Z"
T2 = "2026-11-24T17:00:00.002Z"


class Counting(SqliteStore):
    """A real store that counts what is asked of it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.calls: list[str] = []

    def load(self, *args: Any) -> Loaded:
        self.calls.append("load")
        return super().load(*args)

    def begin(self, *args: Any) -> tuple[int, Loaded]:
        self.calls.append("begin")
        return super().begin(*args)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Counting]:
    store = Counting(tmp_path / "state.sqlite3")
    yield store
    store.close()


def event(anonymous: str | None, user: str | None, at: str = T1, message: str = "m") -> dict[str, Any]:
    return {"type": "track", "messageId": message, "receivedAt": at, "anonymousId": anonymous, "userId": user}


def run(store: SqliteStore, *events: dict[str, Any], shard: int = 0, settled: dict[int, int] | None = None) -> Resolved:
    return resolve(store, shard, Batch(events), settled or {})


def test_a_new_identifier_is_told_with_the_time_of_the_event_that_showed_it(store: Counting) -> None:
    resolved = run(store, event("a", None, T1), event("a", None, T2))
    (person, _) = resolved.person_ids
    assert person is not None
    assert resolved.records == [
        Identity(type="anonymous_id", value="a", person_id=person, seq=resolved.last, seen_at=T1)
    ]


def test_a_merge_is_told_with_the_message_that_showed_it_and_with_each_identifier_that_moved(store: Counting) -> None:
    gone = run(store, event("a", None)).person_ids[0]
    before = run(store, event(None, "u"))
    into = before.person_ids[0]
    assert gone is not None and into is not None
    resolved = run(store, event("a", "u", T2, "m7"), settled={0: before.last})
    first = resolved.records[0].seq
    assert resolved.records == [
        IdentityMerge(person_id=gone, into_person_id=into, seq=first, merged_at=T2, reason="m7"),
        Identity(type="anonymous_id", value="a", person_id=into, seq=first + 1, seen_at=T2),
    ]
    assert first > before.last


def test_a_person_made_and_merged_in_one_batch_is_told_as_a_merge(store: Counting) -> None:
    user = run(store, event(None, "u"))
    resolved = run(store, event("a", None), event("a", "u", T2, "m2"), settled={0: user.last})
    gone, into = resolved.person_ids
    assert into == user.person_ids[0]
    assert [(type(record).__name__, record.person_id) for record in resolved.records] == [
        ("Identity", into),
        ("IdentityMerge", gone),
    ]


def test_an_id_seen_again_costs_one_look_and_no_write(store: Counting) -> None:
    first = run(store, event("a", "u"))
    store.calls.clear()
    again = run(store, event("a", "u"), event("a", None), settled={0: first.last})
    assert again.person_ids == [first.person_ids[0]] * 2
    assert again.records == []
    assert not again.wrote
    assert store.calls == ["load"]


def test_a_change_costs_one_transaction_however_many_ids(store: Counting) -> None:
    run(store, *[event(f"a{number}", f"u{number}") for number in range(100)])
    assert store.calls == ["load", "begin"]


def test_records_that_were_not_settled_are_told_again_in_order(store: Counting) -> None:
    first = run(store, event("a", None))
    second = run(store, event("b", None))
    third = run(store)
    assert second.records[:1] == first.records
    assert third.records == second.records
    assert [record.seq for record in third.records] == sorted(record.seq for record in third.records)
    assert third.last == second.last


def test_records_of_one_shard_are_not_told_in_another(store: Counting) -> None:
    run(store, event("a", None), shard=0)
    assert run(store, event("a", None), shard=1).records == []


def test_a_write_takes_out_of_the_outbox_what_was_settled(store: Counting) -> None:
    first = run(store, event("a", None), shard=0)
    run(store, event("b", None), shard=1, settled={0: first.last})
    assert store.load([], 0, 0).waiting == []
    assert len(store.load([], 1, 0).waiting) == 1


def test_a_backlog_of_records_is_told_in_bounded_parts_without_a_gap(store: Counting) -> None:
    run(store, *[event(f"a{number}", None) for number in range(OUTBOX_LIMIT + 10)])
    part = run(store, event("new", None))
    assert len(part.records) == OUTBOX_LIMIT
    rest = run(store, settled={0: part.last})
    assert [record.seq for record in rest.records] == sorted(record.seq for record in rest.records)
    assert len(rest.records) == 11
    assert part.last < rest.records[0].seq


class Overtaken(SqliteStore):
    """A real store; between its look and its turn to write, another worker ties the same ids."""

    def begin(self, *args: Any) -> tuple[int, Loaded]:
        other = SqliteStore(self.path)
        self.other = run(other, event("a", "u"), shard=1)
        other.close()
        return super().begin(*args)


def test_what_another_worker_tied_in_between_holds(tmp_path: Path) -> None:
    store = Overtaken(tmp_path / "state.sqlite3")
    resolved = run(store, event("a", None), event(None, "u"), event("b", "u"))
    store.close()
    assert resolved.person_ids == store.other.person_ids * 3
    assert [record.value for record in resolved.records if isinstance(record, Identity)] == ["b"]


class Failing(SqliteStore):
    """A real store whose disk fills up at the end of a transaction."""

    def commit(self, *args: Any) -> None:
        raise OSError("no space left on device")


def test_a_failure_amid_a_transaction_leaves_nothing_and_the_lock_free(tmp_path: Path) -> None:
    failing = Failing(tmp_path / "state.sqlite3")
    with pytest.raises(OSError, match="no space left"):
        run(failing, event("a", None))
    store = SqliteStore(tmp_path / "state.sqlite3", busy_timeout=0.1)
    assert len(run(store, event("a", None)).records) == 1
    store.close()
    failing.close()


@pytest.mark.parametrize("value", ["x" * 32_000, "née 💡", "a\0b", "\ud800", "' OR 1=1 --", "%s {} $1"])
def test_a_value_of_any_kind_is_an_identifier(store: Counting, value: str) -> None:
    first = run(store, event(value, value + "2"))
    again = run(store, event(value, None), event(None, value + "2"))
    assert again.person_ids == first.person_ids * 2
    assert again.records == first.records
    assert msgspec.json.decode(msgspec.json.encode(first.records), type=list[Identity]) == first.records


def test_long_values_that_differ_at_the_end_are_different(store: Counting) -> None:
    first, second = run(store, event("x" * 30_000 + "1", None), event("x" * 30_000 + "2", None)).person_ids
    assert first != second
