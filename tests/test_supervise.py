"""The children of `up`: kept running, ended in order, and named when they can't start. Real processes, real Valkey."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
import time

import pytest
from structlog.testing import capture_logs

from eventrouter import disk
from eventrouter.data_directory import DataDirectory
from eventrouter.embedded import EmbeddedServer
from eventrouter.errors import StartError
from eventrouter.supervise import FIRST_PAUSE, Child, ChildError, Supervisor

PRELUDE = """
import os, signal, sys, time, pathlib
from eventrouter import child
child.attach()
here = pathlib.Path(sys.argv[1])
def note(text):
    with (here / "notes").open("a") as file:
        file.write(text + "\\n")
def end(*_):
    note(os.environ["EVENTROUTER_PROCESS"] + " ended")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
"""
IDLE = "note(os.environ['EVENTROUTER_PROCESS'] + ' began')\nwhile True: time.sleep(0.01)"


class Run:
    """One supervisor with its children in a task."""

    def __init__(self, path) -> None:
        self.path = path
        self.directory = DataDirectory(path / "data")
        self.children: list[Child] = []
        self.server: EmbeddedServer | None = None
        self.worker_of = None
        self.told: list[dict] = []
        self.is_up = False
        self.task: asyncio.Task[None] | None = None

    def add(self, name: str, code: str, *, is_worker: bool = False) -> Child:
        command = (sys.executable, "-c", PRELUDE + textwrap.dedent(code), str(self.path))
        self.children.append(Child(name, command, is_worker=is_worker))
        return self.children[-1]

    def start(self) -> None:
        self.directory.open()

        async def is_ready() -> bool:
            return self.is_up

        self.supervisor = Supervisor(self.directory, self.server, self.children, self.worker_of)
        self.task = asyncio.create_task(self.supervisor.run(is_ready, lambda facts: self.told.append(dict(facts))))

    async def become_ready(self) -> None:
        self.is_up = True
        await self.until(lambda: self.told)

    async def stop(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(self.task, 30)

    @property
    def notes(self) -> list[str]:
        file = self.path / "notes"
        return file.read_text().splitlines() if file.exists() else []

    async def until(self, condition) -> None:
        async with asyncio.timeout(15):
            while not condition():
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.01)


@pytest.fixture
async def run(tmp_path):
    run = Run(tmp_path)
    yield run
    if run.task is not None and not run.task.done():
        await run.stop()
    run.directory.close()


async def test_children_run_until_a_signal_and_end_in_order(run):
    run.server = EmbeddedServer(run.path / "data")
    run.add("worker-1", IDLE, is_worker=True)
    run.add("collector", IDLE)
    run.start()
    await run.until(lambda: len(run.notes) == 2 and run.server.is_alive())
    await run.become_ready()
    await run.stop()
    assert run.notes[2:] == ["collector ended", "worker-1 ended"]
    assert not run.server.is_alive()


async def meet_a_full_disk(run, monkeypatch, lines) -> None:
    """A server that ends because its disk is full."""
    run.server = EmbeddedServer(run.path / "data")
    run.start()
    await run.until(lambda: run.server.is_alive() and run.server.is_reachable())
    monkeypatch.setattr(disk, "FULL_BYTES", 2**80)
    os.kill(run.server.pid, signal.SIGKILL)
    await run.until(lambda: any("The disk is full" in line["event"] for line in lines))


async def test_with_a_full_disk_the_server_starts_again_when_there_is_room(run, monkeypatch):
    with capture_logs() as lines:
        await meet_a_full_disk(run, monkeypatch, lines)
        await asyncio.sleep(2 * FIRST_PAUSE)
        assert not run.server.is_alive()
        monkeypatch.setattr(disk, "FULL_BYTES", 0)
        await run.until(lambda: run.server.is_alive() and run.server.is_reachable())
    assert sum("The disk is full" in line["event"] for line in lines) == 1


async def test_a_stop_ends_the_wait_for_room(run, monkeypatch):
    with capture_logs() as lines:
        await meet_a_full_disk(run, monkeypatch, lines)
        await run.stop()


async def test_what_children_report_is_told_once_when_all_is_ready(run):
    run.add("collector", "child.report(write_key='k', destinations=2)\n" + IDLE)
    run.start()
    await run.until(lambda: run.supervisor.facts)
    assert run.told == []
    await run.become_ready()
    assert run.told == [{"write_key": "k", "destinations": 2}]


async def test_a_child_that_dies_is_started_again(run):
    collector = run.add("collector", IDLE)
    run.start()
    await run.until(lambda: len(run.notes) == 1)
    await run.become_ready()
    for count in (2, 3):
        os.kill(collector.process.pid, signal.SIGKILL)
        await run.until(lambda count=count: len(run.notes) == count)


async def test_a_child_killed_before_all_is_ready_is_started_again(run):
    collector = run.add("collector", IDLE)
    run.start()
    await run.until(lambda: len(run.notes) == 1)
    os.kill(collector.process.pid, signal.SIGKILL)
    await run.until(lambda: len(run.notes) == 2)


async def test_a_child_that_cannot_start_ends_all_with_its_error_and_exit_code(run):
    worker = run.add("worker-1", IDLE, is_worker=True)
    run.add("collector", "child.report(error={'message': 'no such route', 'hint': 'add it'}); sys.exit(78)")
    run.start()
    with pytest.raises(ChildError, match="no such route") as caught:
        await asyncio.wait_for(run.task, 10)
    assert (caught.value.hint, caught.value.exit_code) == ("add it", 78)
    assert not worker.is_alive


async def test_a_child_that_says_nothing_about_its_failure_is_named(run):
    run.add("collector", "sys.exit(3)")
    run.start()
    with pytest.raises(ChildError, match="the collector ended with exit code 3 at its start"):
        await asyncio.wait_for(run.task, 10)


async def test_a_failure_after_all_was_ready_ends_nothing(run):
    code = "note('try'); time.sleep(0.5 if len((here / 'notes').read_text().split()) == 1 else 0); sys.exit(78)"
    run.add("collector", code)
    run.start()
    await run.become_ready()
    await run.until(lambda: len(run.notes) >= 3)
    assert not run.task.done()


async def test_the_server_is_started_again_when_it_dies(run):
    run.server = EmbeddedServer(run.path / "data")
    run.add("collector", IDLE)
    run.start()
    await run.until(lambda: run.server.is_alive())
    first = run.server.pid
    await run.become_ready()
    os.kill(first, signal.SIGKILL)
    await run.until(lambda: run.server.pid not in (0, first) and run.server.is_alive())


async def test_a_server_that_is_killed_while_it_starts_is_started_again(run, monkeypatch):
    run.server = EmbeddedServer(run.path / "data")
    ping = run.server._ping
    killed = []

    def ping_and_kill() -> str:
        if not killed:
            killed.append(run.server.pid)
            os.kill(run.server.pid, signal.SIGKILL)
            return ""
        return ping()

    monkeypatch.setattr(run.server, "_ping", ping_and_kill)
    run.start()
    await run.until(lambda: run.server.pid not in (0, *killed) and run.server.socket.exists())


async def test_a_server_whose_socket_was_removed_is_started_again(run):
    run.server = EmbeddedServer(run.path / "data")
    run.start()
    await run.until(lambda: run.server.socket.exists() and run.server.is_alive())
    first = run.server.pid
    await asyncio.sleep(0.3)
    run.server.socket.unlink()
    await run.until(lambda: run.server.pid not in (0, first) and run.server.socket.exists())


async def test_a_server_that_cannot_start_ends_all(run):
    run.server = EmbeddedServer(run.path / "data")
    run.server.start()
    run.server.stop()
    (file,) = run.server.directory.glob("appendonlydir/*.incr.aof")
    file.write_bytes(b"nonsense\r\n" * 10)
    run.add("collector", IDLE)
    run.start()
    with pytest.raises(StartError, match="Bad file format"):
        await asyncio.wait_for(run.task, 10)
    assert not run.children[0].is_alive


async def test_a_child_that_does_not_end_is_killed_in_time(run, monkeypatch):
    monkeypatch.setattr("eventrouter.supervise.COLLECTOR_SECONDS", 0.3)
    run.add("collector", "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + IDLE)
    run.start()
    await run.until(lambda: run.notes)
    started = time.monotonic()
    await run.stop()
    assert 0.2 < time.monotonic() - started < 5


async def test_a_second_signal_does_not_wait(run, monkeypatch):
    monkeypatch.setattr("eventrouter.supervise.IMPATIENT_SECONDS", 0.05)
    run.add("collector", "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + IDLE)
    run.start()
    await run.until(lambda: run.notes)
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(0.1)
    started = time.monotonic()
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.wait_for(run.task, 10)
    assert time.monotonic() - started < 5


async def test_a_signal_that_comes_twice_at_once_is_one_wish(run):
    code = "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), note('drained'), sys.exit(0)))\n"
    run.add("collector", code + IDLE)
    run.start()
    await run.until(lambda: run.notes)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.05)
    await run.stop()
    assert run.notes[1:] == ["drained"]


async def test_other_workers_wait_until_the_first_has_expired_the_leases_of_the_dead(run):
    run.server = EmbeddedServer(run.path / "data")
    code = """
    alone = child.is_alone()
    note(f"alone {alone}")
    time.sleep(0.3 if alone else 0)
    if alone:
        note("expired")
        child.report(leases_expired=True)
    while True: time.sleep(0.01)
    """
    run.add("worker-1", code, is_worker=True)
    run.add("worker-2", code, is_worker=True)
    run.start()
    await run.until(lambda: len(run.notes) == 3)
    assert run.notes == ["alone True", "expired", "alone False"]


async def test_no_worker_thinks_itself_alone_when_the_server_is_shared(run):
    run.add("worker-1", "note(f'alone {child.is_alone()}')\n" + IDLE, is_worker=True)
    run.start()
    await run.until(lambda: run.notes)
    assert run.notes[0] == "alone False"


async def test_a_worker_knows_whether_it_replaces_one_that_died(run):
    run.server = EmbeddedServer(run.path / "data")
    code = """
    note(f"{child.is_alone()} {child.is_replacement()}")
    child.report(leases_expired=True)
    if not child.is_replacement():
        time.sleep(0.5)
        sys.exit(70)
    while True: time.sleep(0.01)
    """
    run.add("worker-1", code, is_worker=True)
    run.start()
    await run.become_ready()
    await run.until(lambda: len(run.notes) == 2)
    assert run.notes == ["True False", "True True"]


GROUPED = """
import threading
def follow():
    last = None
    while True:
        groups = (here / "groups").read_text().split()
        if groups != last:
            last = groups
            child.report(worker_groups=groups)
        time.sleep(0.01)
threading.Thread(target=follow, daemon=True).start()
"""


def grouped(run, *groups: str, code: str = IDLE) -> None:
    """A worker that reports what is written as groups, and a worker for each of them."""
    (run.path / "groups").write_text(" ".join(groups))
    run.add("worker-1", GROUPED + IDLE, is_worker=True)

    def worker_of(group: str) -> Child:
        child = run.add(f"worker-{group}", code, is_worker=True)
        run.children.remove(child)
        return child

    run.worker_of = worker_of


async def test_each_group_that_a_worker_reports_gets_a_worker_of_its_own(run):
    grouped(run, "slow", "odd")
    run.start()
    await run.until(lambda: len(run.notes) == 3)
    assert set(run.notes) == {"worker-1 began", "worker-odd began", "worker-slow began"}


async def test_groups_come_and_go_while_all_runs(run):
    grouped(run, "slow")
    run.start()
    await run.until(lambda: "worker-slow began" in run.notes)
    await run.become_ready()
    (run.path / "groups").write_text("other")
    await run.until(lambda: {"worker-other began", "worker-slow ended"} <= set(run.notes))
    (run.path / "groups").write_text("other slow")
    await run.until(lambda: run.notes.count("worker-slow began") == 2)
    assert not run.task.done()
    await run.stop()
    assert sorted(run.notes[-3:]) == ["worker-1 ended", "worker-other ended", "worker-slow ended"]


async def test_a_worker_of_a_group_that_dies_is_started_again(run):
    grouped(
        run, "slow", code="note('slow began')\nif (here / 'notes').read_text().count('slow') < 3: os._exit(1)\n" + IDLE
    )
    run.is_up = True
    run.start()
    await run.until(lambda: run.told)
    await run.until(lambda: run.notes.count("slow began") == 3)


async def test_a_worker_of_a_group_that_does_not_end_is_killed_in_time(run, monkeypatch):
    monkeypatch.setattr("eventrouter.supervise.WORKER_SECONDS", 0.3)
    grouped(run, "slow", code="signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + IDLE)
    run.start()
    await run.until(lambda: "worker-slow began" in run.notes)
    [slow] = [one for one in run.supervisor.children if one.name == "worker-slow"]
    (run.path / "groups").write_text("")
    await run.until(lambda: slow.is_retired and not slow.is_alive)
