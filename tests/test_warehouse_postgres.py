"""The warehouse on PostgreSQL: what it says when it cannot be used."""

from __future__ import annotations

import psycopg
import pytest

from eventrouter.builtin.warehouse import PostgresWarehouse
from eventrouter.errors import Retry, StartError, UnavailableError
from warehouse_kit import messages, record, run, select, warehouse_at

SECRET = "s3cret"


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
async def test_both_schemes_work(postgres_url: str, scheme: str) -> None:
    warehouse = warehouse_at(postgres_url.replace("postgresql:", f"{scheme}:"))
    await warehouse.deliver(messages(record("m1")))
    await warehouse.close()
    assert [(1,)] == select(postgres_url, "SELECT count(*) FROM tracks")


@pytest.mark.parametrize("url", ["nonsense", "postgresql://u:s3cret@host:port/d"])
async def test_a_url_that_is_none_is_an_error_without_its_password(url: str) -> None:
    warehouse = PostgresWarehouse(PostgresWarehouse.Options(url=url))
    with pytest.raises(StartError, match="not a URL") as caught:
        await warehouse.start()
    await warehouse.close()
    assert SECRET not in str(caught.value) + repr(caught.value.__cause__)


async def test_a_server_that_is_away_is_a_retry_for_everyone() -> None:
    warehouse = warehouse_at(f"postgresql://u:{SECRET}@127.0.0.1:1/d")
    with pytest.raises(UnavailableError, match=r"127.0.0.1/d") as caught:
        await warehouse.start()
    assert "check that the server runs" in caught.value.hint
    with pytest.raises(Retry, match=r"127.0.0.1/d") as retry:
        await warehouse.deliver(messages(record("m1")))
    assert retry.value.everyone
    assert SECRET not in str(caught.value) + retry.value.reason
    with pytest.raises(UnavailableError):
        await warehouse.find_events([("website", "m1")])
    await warehouse.close()


def test_a_password_in_the_drivers_words_is_masked() -> None:
    warehouse = warehouse_at(f"postgresql://u:{SECRET}@127.0.0.1:1/d?password=other")
    message, _ = warehouse.explain(psycopg.OperationalError(f"no {SECRET} or other\nDETAIL: more"))
    assert "the warehouse at 127.0.0.1/d: no ********** or **********" == message


async def test_a_missing_database_says_so(postgres_url: str) -> None:
    warehouse = warehouse_at(postgres_url.replace("/test_", "/missing_"))
    with pytest.raises(UnavailableError, match="does not exist"):
        await warehouse.start()
    await warehouse.close()


async def test_a_user_without_rights_says_so(postgres_url: str) -> None:
    run(postgres_url, "DROP ROLE IF EXISTS reader")
    run(postgres_url, "CREATE ROLE reader LOGIN")
    warehouse = warehouse_at(postgres_url.replace("postgres@", "reader@"))
    with pytest.raises(UnavailableError, match="permission denied") as caught:
        await warehouse.start()
    assert "grant" in caught.value.hint
    await warehouse.close()


async def test_a_schema_of_its_own_keeps_clear_of_other_tables(postgres_url: str) -> None:
    run(postgres_url, "CREATE TABLE users (name text)")
    run(postgres_url, "CREATE TABLE order_completed (name text)")
    run(postgres_url, "CREATE SCHEMA analytics")
    for url in (postgres_url, postgres_url + "&options=-csearch_path%3Dmissing"):
        warehouse = warehouse_at(url)
        with pytest.raises((StartError, UnavailableError), match=r"users|schema"):
            await warehouse.start()
        await warehouse.close()
    warehouse = warehouse_at(postgres_url + "&options=-csearch_path%3Danalytics,public")
    await warehouse.deliver(messages(record("m1"), record("m2", "identify", userId="u1")))
    await warehouse.close()
    assert [("m1",)] == select(postgres_url, "SELECT id FROM analytics.order_completed")
    assert [("u1",)] == select(postgres_url, "SELECT id FROM analytics.users")
    assert [] == select(postgres_url, "SELECT * FROM users")


async def test_a_database_that_cannot_hold_every_character_is_refused(postgres_url: str) -> None:
    run(postgres_url, "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    head, _, tail = postgres_url.partition("/test_")
    warehouse = warehouse_at(f"{head}/latin?{tail.partition('?')[2]}")
    try:
        with pytest.raises(StartError, match="LATIN1") as caught:
            await warehouse.start()
        assert "UTF8" in caught.value.hint
    finally:
        await warehouse.close()
        run(postgres_url, "DROP DATABASE latin WITH (FORCE)")
