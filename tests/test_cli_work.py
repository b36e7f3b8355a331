"""`eventrouter work`: a worker by itself."""

from __future__ import annotations

import time

import pytest
from redis import Redis

from cli_kit import Place, wait_until
from eventrouter.embedded import EmbeddedServer


@pytest.fixture
def place(tmp_path, valkey):
    place = Place(tmp_path, EVENTROUTER_REDIS_URL=valkey)
    (tmp_path / ".eventrouter").mkdir()
    yield place
    place.close()


def serves(url: str) -> bool:
    """Whether a worker serves the queue there: arq says so."""
    with Redis.from_url(url) as client:
        return bool(client.exists("er:queue:health-check"))


def test_it_runs_until_it_is_told_to_stop(place, redis, valkey):
    process = place.start("work")
    wait_until(lambda: serves(valkey) or process.poll() is not None)
    assert place.stop(process) == 0, place.err
    assert "Traceback" not in place.err
    wait_until(lambda: not serves(valkey), 3)


@pytest.mark.parametrize("databases", ["", "warehouse: { url: 'postgresql://x' }\nstate: { url: 'postgresql://x' }\n"])
def test_sqlite_files_that_begin_empty_are_told(place, redis, valkey, databases):
    with Redis.from_url(valkey) as client:
        client.hset("er:meta", mapping={"shards": "8", "format": "1"})  # so that it ends soon
    rules = place.path / "routes.yaml"
    rules.write_text(rules.read_text() + databases)
    result = place.run("work", "--data-dir", "mistyped")
    assert (result.returncode, "this event log has 8 shards" in result.stderr) == (1, True)
    assert ("the data directory is new" in result.stderr) == (not databases)


def test_a_bad_configuration_is_told(place):
    (place.path / "routes.yaml").write_text("version: 1\nsources: 3\n")
    result = place.run("work")
    assert (result.returncode, "routes.yaml:2:" in result.stderr) == (78, True)


def test_a_server_that_goes_away_for_good_is_told_without_a_traceback(place, tmp_path):
    with EmbeddedServer(tmp_path / "other") as server:
        process = place.start("work", EVENTROUTER_REDIS_URL=server.url)
        wait_until(lambda: serves(server.url))
    began = time.monotonic()
    assert place.stop(process) in (0, 1)
    assert time.monotonic() - began < 15
    assert "Traceback" not in place.err


@pytest.mark.parametrize(
    ("arguments", "variables"), [(("--group", "slow"), {}), ((), {"EVENTROUTER_WORKER_GROUP": "slow"})]
)
def test_a_worker_may_serve_a_group_alone(place, redis, valkey, arguments, variables):
    process = place.start("work", *arguments, **variables)
    with Redis.from_url(valkey) as client:
        wait_until(lambda: bool(client.exists("er:queue:slow:health-check")) or process.poll() is not None)
    assert not serves(valkey)
    assert place.stop(process) == 0, place.err
    assert "no destination has this worker group" in place.err  # a mistyped name is seen


def test_what_is_no_name_for_a_group_is_told(place):
    result = place.run("work", "--group", "no good")
    assert (result.returncode, "--group: 'no good' is not a name for a group" in result.stderr) == (78, True)
