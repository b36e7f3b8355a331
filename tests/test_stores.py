"""stores.py: workers that would fill other databases than the others do not start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis

from eventrouter import stores as stores_module
from eventrouter.config import Config
from eventrouter.config_model import StateConfig, WarehouseConfig
from eventrouter.errors import StartError
from eventrouter.presence import Process, leave, processes, tell
from eventrouter.stores import agree, stores_of

FILES = Config("", "r1", {})
POSTGRES = replace(FILES, warehouse=WarehouseConfig("postgresql://a/b"), state=StateConfig("postgres://a/b"))


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores_module, "GONE_SECONDS", -2.0)
    monkeypatch.setattr(stores_module, "LOOK_SECONDS", 0.01)


def worker(host: str, stores: str) -> Process:
    """Another one."""
    return Process("worker", host, 7, "r1", stores=stores)


def test_files_are_known_by_their_directory_on_its_disk(tmp_path: Path) -> None:
    one, other = (stores_of(FILES, tmp_path / name) for name in ("one", "other"))
    assert one != other
    assert one == stores_of(FILES, tmp_path / "one")
    (tmp_path / "link").symlink_to(tmp_path / "one")
    assert one == stores_of(FILES, tmp_path / "link")
    assert [".eventrouter-id"] == [path.name for path in (tmp_path / "one").iterdir()]


def test_a_file_that_the_rules_name_is_known_by_its_directory(tmp_path: Path) -> None:
    named = replace(FILES, warehouse=WarehouseConfig(f"sqlite:///{tmp_path}/w.sqlite3"))
    one, other = (stores_of(named, tmp_path / name).split() for name in ("one", "other"))
    assert (one[0], True) == (other[0], one[1] != other[1])


@pytest.mark.parametrize(
    ("damaged", "expected"), [(b"\xb9\x00 ", "b90020"), (b"a b", "612062"), (b"\x00" * 16, "00" * 16)]
)
def test_a_damaged_mark_is_one_word_all_the_same(tmp_path: Path, damaged: bytes, expected: str) -> None:
    (tmp_path / ".eventrouter-id").write_bytes(damaged)
    assert f"{expected} {expected}" == stores_of(FILES, tmp_path)


def test_a_directory_with_an_empty_mark_is_known_by_its_name(tmp_path: Path) -> None:
    (tmp_path / ".eventrouter-id").touch()
    assert f"{tmp_path} {tmp_path}" == stores_of(FILES, tmp_path)


def test_servers_are_left_to_the_operator(tmp_path: Path) -> None:
    assert "server server" == stores_of(POSTGRES, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_directory_that_cannot_be_written_is_known_by_its_name(tmp_path: Path) -> None:
    named = replace(POSTGRES, state=StateConfig("sqlite:////nowhere/s.sqlite3"))
    assert "server /nowhere" == stores_of(named, tmp_path)


async def test_workers_with_the_same_stores_agree(redis: Redis, tmp_path: Path) -> None:
    await tell(redis, worker("there", stores_of(FILES, tmp_path)))
    assert stores_of(FILES, tmp_path) == await agree(redis, FILES, tmp_path)
    assert 2 == len(await processes(redis))


async def test_collectors_and_older_workers_have_nothing_to_say(redis: Redis, tmp_path: Path) -> None:
    await tell(redis, worker("there", ""))
    await agree(redis, FILES, tmp_path)


@pytest.mark.parametrize(
    ("mine", "theirs", "told"),
    [
        (FILES, FILES, "has another warehouse"),
        (FILES, POSTGRES, "has another warehouse"),
        (replace(POSTGRES, state=FILES.state), POSTGRES, "has another state"),
    ],
)
async def test_a_worker_with_other_files_is_refused(
    redis: Redis, tmp_path: Path, mine: Config, theirs: Config, told: str
) -> None:
    await tell(redis, worker("there", stores_of(theirs, tmp_path / "theirs")))
    with pytest.raises(StartError, match=f"7 on there, {told}") as caught:
        await agree(redis, mine, tmp_path / "mine")
    assert "postgre" in caught.value.hint.lower()
    assert ["there"] == [one.host for one in await processes(redis)]


async def test_one_that_goes_is_waited_for(redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores_module, "GONE_SECONDS", 60.0)
    other = worker("there", stores_of(FILES, tmp_path / "theirs"))
    await tell(redis, other)
    looks = 0

    async def look(redis: Redis) -> list[Process]:
        nonlocal looks
        looks += 1
        if looks == 3:
            await leave(redis, other)
        return await processes(redis)

    monkeypatch.setattr(stores_module, "processes", look)
    await agree(redis, FILES, tmp_path / "mine")
    assert 3 == looks
