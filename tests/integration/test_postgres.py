"""PostgreSQL as warehouse and as state, and databases that are away for a while."""

import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from gate import gate_to_postgres
from http_sink import Sink
from psycopg.rows import dict_row
from system import System, until

RULES = """
version: 1
sources: { website: { write_key: key-website } }
warehouse: { url: "${WAREHOUSE:-}" }
state: { url: "${STATE:-}" }
destinations:
  all: { plugin: webhook, options: { url: "${SINK}${SINK_PATH}", allow_private: true } }
routes:
  - { to: all }
"""


def ask(url: str, query: str) -> list[dict[str, Any]]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return connection.execute(query.encode()).fetchall()


def rows(url: str, count: int, query: str) -> list[dict[str, Any]]:
    """Rows of the database, once there are `count`."""

    def found() -> list[dict[str, Any]]:
        try:
            return ask(url, query)
        except psycopg.errors.UndefinedTable:
            return []

    until(lambda: len(found()) >= count, lambda: f"{len(found())} rows instead of {count}: {query}", every=0.1)
    assert len(found()) == count
    return found()


def test_everything_may_live_in_postgresql(start: Callable[..., System], sink: Sink, postgres_url: str) -> None:
    system = start(RULES, {"WAREHOUSE": postgres_url, "STATE": postgres_url, "SINK_PATH": "/postgres"})
    system.send(
        {"type": "page", "anonymousId": "pg-a", "messageId": "pg-1", "name": "Home"},
        {"type": "track", "event": "Order Completed", "anonymousId": "pg-a", "messageId": "pg-2",
         "properties": {"total": 12.5, "huge": 2**70, "nul": "a\0b", "größe": "☃", "items": [{"sku": 1}]}},
        {"type": "identify", "userId": "pg-u", "anonymousId": "pg-b", "messageId": "pg-3", "traits": {"plan": "pro"}},
        {"type": "identify", "userId": "pg-u", "anonymousId": "pg-a", "messageId": "pg-4", "traits": {"age": 5}},
    )  # fmt: skip
    system.post("/v1/track", {"userId": "pg-u"})
    found = rows(postgres_url, 4, "SELECT id, type, payload FROM events ORDER BY id")
    assert [row["type"] for row in found] == ["page", "track", "identify", "identify"]
    assert found[1]["payload"]["properties"]["huge"] == 2**70
    [order] = ask(postgres_url, "SELECT total, items, event_text FROM order_completed")
    assert order == {"total": 12.5, "items": '[{"sku":1}]', "event_text": "Order Completed"}
    assert ask(postgres_url, "SELECT plan, age FROM users WHERE id = 'pg-u'") == [{"plan": "pro", "age": 5}]
    rows(postgres_url, 1, "SELECT * FROM rejected_events WHERE code = 'event_not_defined'")
    until(lambda: len(ask(postgres_url, "SELECT DISTINCT person_id FROM resolved_events")) == 1, every=0.1)
    hits = sink.wait("/postgres", 4)
    assert [hit.json["properties"]["nul"] for hit in hits if hit.json["messageId"] == "pg-2"] == ["a\0b"]
    # The same command goes on where it was.
    assert system.stop() == 0
    system.start()
    system.track("Order Completed", "pg-a", messageId="pg-2", properties={"total": 1})
    system.track("Order Completed", "pg-a", messageId="pg-5", properties={"total": 7})
    rows(postgres_url, 5, "SELECT id FROM events")
    assert [row["total"] for row in ask(postgres_url, "SELECT total FROM order_completed ORDER BY total")] == [7, 12.5]
    assert system.run("dead", "list").stdout == "There are no such dead letters.\n"
    assert "Traceback" not in system.log


def test_a_warehouse_that_is_away_delays_only_itself(
    start: Callable[..., System], sink: Sink, postgres_url: str
) -> None:
    gate, url = gate_to_postgres(postgres_url)
    with gate:
        system = start(RULES, {"WAREHOUSE": url, "SINK_PATH": "/warehouse-away"})
        system.track("Before", "a", messageId="before")
        rows(postgres_url, 1, "SELECT * FROM events")
        gate.close()
        for n in range(20):
            system.track("During", f"a{n}", messageId=f"during-{n}", properties={"n": n})
        sink.wait("/warehouse-away", 21)
        until(lambda: system.destination("warehouse")["state"] == "backing off", every=0.3)
        row = system.destination("warehouse")
        assert row["waiting"] >= 20
        assert "127.0.0.1" in row["reason"] or "connection" in row["reason"].lower()
        done = system.run("dead", "list")
        assert done.returncode == 1
        assert "the warehouse" in done.stderr
        assert "hint: check that the server runs" in done.stderr
        gate.open()
        rows(postgres_url, 21, "SELECT * FROM events")
        rows(postgres_url, 20, "SELECT * FROM during")
        until(lambda: system.destination("warehouse")["state"] == "ok", every=0.3)
        assert system.destination("warehouse")["waiting"] == 0


def test_a_state_database_that_is_away_delays_routing_and_loses_nothing(
    start: Callable[..., System], sink: Sink, postgres_url: str
) -> None:
    gate, url = gate_to_postgres(postgres_url)
    with gate:
        gate.close()  # away from the very start
        system = start(RULES, {"STATE": url, "SINK_PATH": "/state-away"})
        for n in range(10):
            system.track("First", f"s{n}", messageId=f"first-{n}")
        time.sleep(1)
        assert sink.at("/state-away") == []
        assert system.is_ready()
        assert system.status()["events"]["in_log"] == 10
        gate.open()
        sink.wait("/state-away", 10)
        system.events(10, "First")
        gate.close()
        system.send(*({"type": "page", "anonymousId": f"s{n}", "messageId": f"second-{n}"} for n in range(10)))
        gate.open()
        sink.wait("/state-away", 20)
        known = {row["anonymous_id"]: set() for row in system.rows(20, "SELECT * FROM events")}
        for row in system.sql("SELECT anonymous_id, person_id FROM events"):
            known[row["anonymous_id"]].add(row["person_id"])
        assert {len(persons) for persons in known.values()} == {1}
        assert None not in set().union(*known.values())


@pytest.mark.parametrize("name", ["WAREHOUSE", "STATE"])
def test_a_database_that_refuses_the_password_is_told_without_it(
    start: Callable[..., System], postgres_url: str, name: str
) -> None:
    gate, url = gate_to_postgres(postgres_url)
    with gate:
        url = url.replace("postgres@", "nobody:hush-hush@")
        system = start(RULES, {name: url, "SINK_PATH": "/refused"})
        system.track("Waits", "a")
        until(lambda: "nobody" in system.log, lambda: system.log, every=0.2)
        assert "hush-hush" not in system.log
        assert "Traceback" not in system.log
        system.track("Waits Too", "a")
        assert system.stop() == 0
