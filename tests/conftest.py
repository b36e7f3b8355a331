"""Parts that many tests need: a real PostgreSQL, and a warehouse on each database."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from postgres_kit import postgres_running

pytest_plugins = ["lost_exceptions", "services"]

_numbers = itertools.count(1)

LONGEST_FIRST = ("tests/chaos/", "tests/integration/", "tests/clients/", "tests/test_cli")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the files that take long, so that none of them is left alone at the end of a parallel run."""
    items.sort(key=lambda item: next((n for n, part in enumerate(LONGEST_FIRST) if item.nodeid.startswith(part)), 9))


def pytest_collection_finish() -> None:
    """What is loaded by now stays: to look through it for garbage again and again took a seventh of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of this test process's PostgreSQL server."""
    with postgres_running() as (_, url):
        with psycopg.connect(url, autocommit=True) as connection:
            # What a test writes need not survive a power cut.
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database of this test's own."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield postgres_server.replace("/postgres?", f"/{name}?")
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(params=["sqlite", "postgresql"])
def warehouse_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty warehouse; a test that asks for it runs once for each database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'warehouse.sqlite3'}"
    return str(request.getfixturevalue("postgres_url"))
