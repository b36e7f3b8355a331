"""EVENTROUTER_REDIS_URL: a Redis or Valkey of the user's own, with `up`, and with `collect` and arq by themselves."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from http_sink import Sink
from outside_valkey import OutsideValkey
from system import System, free_port, run, until

RULES = """
version: 1
sources: { website: { write_key: key-website } }
destinations:
  all: { plugin: webhook, options: { url: "${SINK}${SINK_PATH}", allow_private: true } }
routes:
  - { to: all }
"""
ARQ = (sys.executable, "-P", "-m", "arq")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OutsideValkey]:
    """A server that keeps what it is given."""
    directory = tmp_path / "valkey"
    directory.mkdir()
    with OutsideValkey(directory) as running:
        yield running


@pytest.fixture
def separate(server: OutsideValkey, sink: Sink, tmp_path: Path) -> Iterator[tuple[System, "Worker"]]:
    """`eventrouter collect` and a worker that arq runs, as two processes that nobody watches."""
    environment = {"EVENTROUTER_REDIS_URL": server.url, "SINK": sink.url, "SINK_PATH": "/arq"}
    with ExitStack() as stack:
        collector = stack.enter_context(System(tmp_path, RULES, environment, command="collect"))
        yield collector, stack.enter_context(Worker(collector))


class Worker:
    """A worker by `arq eventrouter.WorkerSettings`."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.log_path = system.directory / "arq.txt"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Worker":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        command = [*ARQ, "eventrouter.WorkerSettings"]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=self._system.variables(), cwd=self._system.directory, stdout=log, stderr=log
            )

    def stop(self) -> int:
        if self._process is None:
            return -1
        process, self._process = self._process, None
        process.terminate()
        return process.wait(40)


def test_up_uses_it_and_warns_of_what_it_may_lose(sink: Sink, tmp_path: Path) -> None:
    with OutsideValkey(tmp_path, appendonly="no", maxmemory="100mb", maxmemory_policy="allkeys-lru") as server:
        environment = {"EVENTROUTER_REDIS_URL": server.url, "SINK": sink.url, "SINK_PATH": "/outside"}
        with System(tmp_path, RULES, environment) as system:
            system.track("Outside", "a")
            sink.wait("/outside", 1)
            system.events(1, "Outside")
            assert "set appendonly yes" in system.log
            assert "set maxmemory-policy noeviction" in system.log
            assert "s3cret" not in system.log
            assert "s3cret" not in system.output.read_text()
            assert not (system.data / "valkey").exists()
            assert system.stop() == 0


def test_arq_runs_a_worker_that_serves_events(separate: tuple[System, Worker], sink: Sink) -> None:
    system, worker = separate
    for n in range(30):
        system.track("By Arq", f"a{n % 5}", messageId=f"arq-{n}")
    sink.wait("/arq", 30)
    system.events(30, "By Arq")
    check = run([*ARQ, "--check", "eventrouter.WorkerSettings"], system.variables(), system.directory)
    assert check.returncode == 0, check.stderr
    assert worker.stop() == 0
    system.track("Later", "a", messageId="arq-later")
    time.sleep(0.5)
    worker.start()
    sink.wait("/arq", 31)
    told = worker.log_path.read_text()
    assert "Traceback" not in told
    assert "s3cret" not in told
    assert told.count("Starting worker for 1 functions: turn") == 2


def test_a_check_without_a_worker_fails(server: OutsideValkey, sink: Sink, tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(RULES)
    environment = {"EVENTROUTER_REDIS_URL": server.url, "SINK": sink.url, "SINK_PATH": "/arq"}
    system = System(tmp_path, RULES, environment)
    check = run([*ARQ, "--check", "eventrouter.WorkerSettings"], system.variables(), system.directory)
    assert check.returncode == 1


def test_a_redis_that_goes_away_is_waited_for(
    separate: tuple[System, Worker], server: OutsideValkey, sink: Sink
) -> None:
    system, _ = separate
    system.track("Before", "a", messageId="away-1")
    sink.wait("/arq", 1, lambda event: event["messageId"] == "away-1")
    server.stop()
    system.track("During", "a", messageId="away-2")
    ready = system.get("/ready")
    assert (ready.status, ready.json["event_log"], ready.json["spooling"]) == (200, "away", True)
    assert (system.count("up"), system.count("spool_events")) == (0, 1)
    done = system.run("status")
    assert (done.returncode, "is not reachable" in done.stderr) == (1, True)
    time.sleep(3)
    server.start()
    system.track("After", "a", messageId="away-3")
    hits = sink.wait("/arq", 2, lambda event: event["messageId"] in ("away-2", "away-3"))
    assert [hit.json["messageId"] for hit in hits] == ["away-2", "away-3"]
    until(lambda: system.get("/ready").json["event_log"] == "ok")


def test_without_a_spool_a_redis_that_goes_away_is_a_503(server: OutsideValkey, sink: Sink, tmp_path: Path) -> None:
    rules = RULES + "collect: { spool: { max_bytes: 0 } }\n"
    environment = {"EVENTROUTER_REDIS_URL": server.url, "SINK": sink.url, "SINK_PATH": "/arq"}
    with System(tmp_path, rules, environment, command="collect") as system:
        server.stop()
        reply = system.post("/v1/track", {"event": "During", "anonymousId": "a", "messageId": "none-1"})
        assert reply.error == (503, "unavailable")
        assert int(reply.headers["retry-after"]) >= 1
        assert system.get("/health").status == 200
        ready = system.get("/ready")
        assert (ready.status, ready.json["ready"]) == (503, False)
        server.start()
        until(lambda: system.post("/v1/track", {"event": "After", "anonymousId": "a"}).status == 200)
        assert system.is_ready()
        assert not (system.data / "spool").exists()


def test_a_redis_that_is_not_there_is_told(sink: Sink, tmp_path: Path) -> None:
    url = f"redis://user:s3cret@127.0.0.1:{free_port()}/0"
    rules = RULES + "collect: { spool: { max_bytes: 0 } }\n"
    system = System(tmp_path, rules, {"EVENTROUTER_REDIS_URL": url, "SINK": sink.url, "SINK_PATH": "/none"})
    commands = ["up", "work", f"collect --port {free_port()}", "status"]
    with ThreadPoolExecutor() as pool:  # each of them waits ten seconds for it
        for done in pool.map(lambda command: system.run(*command.split()), commands):
            assert done.returncode == 1, done
            assert "the Redis at redis://**********@127.0.0.1" in done.stderr
            assert "EVENTROUTER_REDIS_URL" in done.stderr
            assert "Traceback" not in done.stderr
            assert "s3cret" not in done.stderr + done.stdout


def test_a_collector_with_a_spool_tells_of_a_redis_that_is_not_there_and_takes_events(
    sink: Sink, tmp_path: Path
) -> None:
    url = f"redis://user:s3cret@127.0.0.1:{free_port()}/0"
    environment = {"EVENTROUTER_REDIS_URL": url, "SINK": sink.url, "SINK_PATH": "/none"}
    with System(tmp_path, RULES, environment, command="collect") as system:
        system.track("Early", "a")
        started = time.monotonic()
        assert system.stop() == 0
        assert time.monotonic() - started < 3
    assert "redis://**********@127.0.0.1" in system.log
    assert "; start it, or correct EVENTROUTER_REDIS_URL" in system.log
    assert "s3cret" not in system.log


def test_a_wrong_password_is_told(server: OutsideValkey, sink: Sink, tmp_path: Path) -> None:
    environment = {"EVENTROUTER_REDIS_URL": server.url.replace("s3cret", "wr0ng"), "SINK": sink.url, "SINK_PATH": "/n"}
    done = System(tmp_path, RULES, environment).run("up")
    assert done.returncode == 1
    assert "refused the password" in done.stderr
    assert "wr0ng" not in done.stderr


def test_another_number_of_shards_is_refused(server: OutsideValkey, sink: Sink, tmp_path: Path) -> None:
    environment = {"EVENTROUTER_REDIS_URL": server.url, "SINK": sink.url, "SINK_PATH": "/shards"}
    system = System(tmp_path, RULES, environment)
    assert system.run("status").returncode == 0
    system.environment["EVENTROUTER_SHARDS"] = "8"
    for command in ("up", "status"):
        done = system.run(command)
        assert done.returncode == 1
        assert "has 4 shards, not 8" in done.stderr
        assert "EVENTROUTER_SHARDS=4" in done.stderr
        assert "Traceback" not in done.stderr
