"""The enrichment geo, with MaxMind DB files made for the test."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import geo_kit
from eventrouter.builtin import geo
from eventrouter.builtin.geo import Geo
from eventrouter.enrichments import Enrichments
from eventrouter.events import StoredEvent

LONDON = {
    "country": "United Kingdom",
    "countryCode": "GB",
    "region": "England",
    "regionCode": "ENG",
    "city": "London",
    "postalCode": "EC2V",
    "latitude": 51.5142,
    "longitude": -0.0931,
    "timezone": "Europe/London",
}
ZURICH = {
    "country": "Switzerland",
    "countryCode": "CH",
    "city": "Zurich",
    "latitude": 47.3682,
    "longitude": 8.5671,
    "timezone": "Europe/Zurich",
}
PROVIDER = {"asn": 64500, "organization": "Example Net"}

Start = Callable[..., Awaitable[Geo]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    started: list[Geo] = []

    async def begin(*paths: Path, drop_ip: bool = False) -> Geo:
        options = {"database": [str(path) for path in paths] or [str(geo_kit.city(tmp_path))], "drop_ip": drop_ip}
        started.append(Geo(Geo.Options.model_validate(options)))
        await started[-1].start()
        return started[-1]

    yield begin
    for one in started:
        await one.close()


def patch(enrichment: Geo, ip: Any, **context: Any) -> Any:
    found = enrichment.patch({"type": "page", "context": {"ip": ip, **context}})
    return found and found["context"]


# where an address is


@pytest.mark.parametrize(
    ("ip", "location"),
    [
        ("81.2.69.160", LONDON),
        (" 81.2.69.160 ", LONDON),
        ("::ffff:81.2.69.160", LONDON),
        ("2a02:cf40::1", ZURICH),
    ],
)
async def test_an_address_has_its_place(start: Start, ip: str, location: Any) -> None:
    assert {"location": location} == patch(await start(), ip)


@pytest.mark.parametrize(
    "ip",
    [
        "81.2.70.1",
        "2001:db8::1",
        "10.1.2.3",
        "::ffff:10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "fe80::1%eth0",
        "0.0.0.0",
        "9.9.9.9",
        "nonsense",
        "81.2.69.160:443",
        "",
        "x" * 100_000,
        None,
        5,
        ["81.2.69.160"],
    ],
)
async def test_what_the_file_does_not_know_and_what_is_private_give_nothing(start: Start, ip: Any) -> None:
    assert patch(await start(), ip) is None


@pytest.mark.parametrize("event", [{}, {"context": None}, {"context": []}, {"context": {}}])
async def test_without_an_address_there_is_nothing_to_look_up(start: Start, event: Any) -> None:
    assert (await start()).patch(event) is None
    assert (await start(drop_ip=True)).patch(event) is None


async def test_a_country_file_gives_the_country(start: Start, tmp_path: Path) -> None:
    enrichment = await start(geo_kit.country(tmp_path))
    assert {"location": {"country": "Switzerland", "countryCode": "CH"}} == patch(enrichment, "81.2.69.160")
    assert patch(enrichment, "2a02:cf40::1") is None


async def test_several_files_add_up_and_the_first_one_wins(start: Start, tmp_path: Path) -> None:
    enrichment = await start(geo_kit.country(tmp_path), geo_kit.city(tmp_path), geo_kit.asn(tmp_path))
    location = {**LONDON, "country": "Switzerland", "countryCode": "CH"}
    assert {"location": location, "network": PROVIDER} == patch(enrichment, "81.2.69.160")
    assert {"network": PROVIDER} == patch(enrichment, "81.2.1.1")


# what the client sent


async def test_a_location_of_the_client_stays_as_a_whole(start: Start) -> None:
    enrichment = await start()
    assert patch(enrichment, "81.2.69.160", location={"latitude": 1.5, "longitude": 2.5}) is None
    assert {"location": LONDON} == patch(enrichment, "81.2.69.160", location={"city": ""})


async def test_what_the_client_says_of_its_network_stays(start: Start, tmp_path: Path) -> None:
    enrichment = await start(geo_kit.asn(tmp_path))
    assert {"network": PROVIDER} == patch(enrichment, "81.2.69.160", network={"wifi": True})
    assert {"network": {"organization": "Example Net"}} == patch(enrichment, "81.2.69.160", network={"asn": 1})


# privacy


@pytest.mark.parametrize("ip", ["10.1.2.3", "nonsense", "", 5, ["81.2.69.160"]])
async def test_an_address_can_be_dropped_whatever_is_known_of_it(start: Start, ip: Any) -> None:
    assert {"ip": None} == patch(await start(drop_ip=True), ip)


async def test_an_address_is_looked_up_before_it_is_dropped(start: Start) -> None:
    enrichment = await start(drop_ip=True)
    assert {"ip": None, "location": LONDON} == patch(enrichment, "81.2.69.160")
    assert {"ip": None} == patch(enrichment, "81.2.69.160", location={"city": "here"})


async def test_an_address_is_dropped_even_when_the_file_fails(tmp_path: Path) -> None:
    path = geo_kit.city(tmp_path)
    for drop_ip in (False, True):
        enrichment = Geo(Geo.Options.model_validate({"database": str(path), "drop_ip": drop_ip}))
        if drop_ip:  # never started, as when the file is gone by then
            assert {"ip": None} == patch(enrichment, "81.2.69.160")
        else:
            with pytest.raises(RuntimeError, match="could not be loaded"):
                patch(enrichment, "81.2.69.160")


async def test_an_address_is_dropped_even_when_the_start_takes_long(tmp_path: Path, monkeypatch: Any) -> None:
    def open_slowly(path: Path) -> Any:
        opened.wait(20)
        return open_copy(path)

    open_copy, opened = geo._open_copy, threading.Event()
    monkeypatch.setattr(geo, "_open_copy", open_slowly)
    options = {"database": str(geo_kit.city(tmp_path)), "drop_ip": True}
    enrichments = Enrichments([enrichment := Geo(Geo.Options.model_validate(options))], patience=0.2)
    await enrichments.start()
    try:
        event = {"type": "page", "messageId": "m", "context": {"ip": "81.2.69.160"}}
        ((stored,), _, _) = await enrichments.run(0, [StoredEvent("website", event)])
        assert {} == stored.event["context"]
        opened.set()
        async with asyncio.timeout(10):
            while "location" not in patch(enrichment, "81.2.69.160"):
                await asyncio.sleep(0.02)
    finally:
        opened.set()
        await enrichments.close()


async def test_routing_waits_rather_than_let_an_address_pass(start: Start) -> None:
    assert [False, True] == [(await start(drop_ip=drop_ip)).required for drop_ip in (False, True)]


async def test_a_start_that_takes_long_leaves_nothing_out(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(geo, "START_SECONDS", 0.05)
    opened = threading.Event()
    monkeypatch.setattr(geo, "_open_copy", lambda _: opened.wait(20))
    enrichment = Geo(Geo.Options.model_validate({"database": str(geo_kit.city(tmp_path))}))
    await enrichment.start()
    with pytest.raises(RuntimeError, match="could not be loaded"):
        patch(enrichment, "81.2.69.160")
    opened.set()
    await enrichment.close()


# files that are replaced


def settle(path: Path, seconds: float = 60.0) -> None:
    """As if the file had been written a while ago."""
    os.utime(path, (time.time() - seconds, time.time() - seconds))


async def test_a_file_that_is_replaced_is_loaded_anew(start: Start, tmp_path: Path) -> None:
    path = geo_kit.city(tmp_path)
    enrichment = await start(path)
    assert {"location": LONDON} == patch(enrichment, "81.2.69.160")
    new = geo_kit.make(tmp_path / "new.mmdb", {"81.2.69.0/24": geo_kit.SWITZERLAND})
    settle(new, 90)
    new.replace(path)
    await enrichment.refresh()
    assert {"location": {"country": "Switzerland", "countryCode": "CH"}} == patch(enrichment, "81.2.69.160")


async def test_the_files_are_looked_at_by_themselves(start: Start, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(geo, "CHECK_SECONDS", 0.05)
    path = geo_kit.city(tmp_path)
    enrichment = await start(path)
    geo_kit.make(path, {"81.2.69.0/24": geo_kit.SWITZERLAND})
    settle(path)
    async with asyncio.timeout(10):
        while patch(enrichment, "81.2.69.160")["location"]["country"] != "Switzerland":
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("harm", ["emptied", "cut", "removed", "nonsense"])
async def test_a_file_that_is_harmed_in_place_leaves_the_one_before_in_use(
    start: Start, tmp_path: Path, harm: str
) -> None:
    path = geo_kit.city(tmp_path)
    enrichment = await start(path)
    if harm == "removed":
        path.unlink()
    else:
        content = {"emptied": b"", "cut": path.read_bytes()[:-200], "nonsense": b"x" * 9999}[harm]
        path.write_bytes(content)
        settle(path)
    await enrichment.refresh()
    assert {"location": LONDON} == patch(enrichment, "81.2.69.161")


async def test_a_file_that_is_being_written_is_left_alone_for_now(start: Start, tmp_path: Path) -> None:
    path = geo_kit.city(tmp_path)
    settle(path)
    enrichment = await start(path)
    geo_kit.make(path, {"81.2.69.0/24": geo_kit.SWITZERLAND})
    await enrichment.refresh()
    assert {"location": LONDON} == patch(enrichment, "81.2.69.160")
    settle(path, 3)
    await enrichment.refresh()
    assert "Switzerland" == patch(enrichment, "81.2.69.160")["location"]["country"]


async def test_a_file_that_comes_back_is_loaded(tmp_path: Path) -> None:
    path = geo_kit.city(tmp_path)
    enrichment = Geo(Geo.Options.model_validate({"database": str(path)}))
    path.rename(tmp_path / "away")
    await enrichment.start()
    with pytest.raises(RuntimeError, match="could not be loaded"):
        patch(enrichment, "81.2.69.160")
    shutil.copy(tmp_path / "away", path)
    await enrichment.refresh()
    assert {"location": LONDON} == patch(enrichment, "81.2.69.160")
    await enrichment.close()


async def test_nothing_is_left_in_the_folder_for_temporary_files(
    start: Start, tmp_path: Path, monkeypatch: Any
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    enrichment = await start(geo_kit.city(tmp_path))
    assert [] == list(folder.iterdir())
    assert {"location": LONDON} == patch(enrichment, "81.2.69.160")


# options


def problem(**options: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Geo.Options.model_validate(options)
    return str(caught.value.errors()[0]["msg"])


def test_a_file_that_is_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    message = problem(database=str(tmp_path / "gone.mmdb"))
    assert f"there is no file {tmp_path / 'gone.mmdb'}\n" in message
    assert "download" in message
    assert "there is no file" in problem(database=str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"hello" * 1000])
def test_a_file_that_is_something_else_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.mmdb"
    path.write_bytes(content)
    assert "is not a MaxMind DB file" in problem(database=str(path))


def test_a_file_that_is_cut_off_is_told(tmp_path: Path) -> None:
    path = geo_kit.city(tmp_path)
    path.write_bytes(path.read_bytes()[:-200])
    assert "is not a MaxMind DB file, or not a whole one\n" in problem(database=[str(path)])


def test_a_database_has_to_be_named() -> None:
    assert "Field required" == problem()
    assert "at least 1 item" in problem(database=[])


def test_it_is_off_until_it_is_configured() -> None:
    assert Geo.enabled is False
