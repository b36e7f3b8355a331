"""The embedded Valkey: one server per data directory whatever was killed, durable, private, clear when it fails."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import redis

from eventrouter import embedded
from eventrouter.embedded import EmbeddedServer
from eventrouter.errors import StartError


@pytest.fixture
def servers(tmp_path):
    """Makes servers of one data directory; all are ended afterwards."""
    made = []

    def make(**options) -> EmbeddedServer:
        made.append(EmbeddedServer(tmp_path / "data dir", **options))
        return made[-1]

    yield make
    for server in made:
        server.stop()


def client(server: EmbeddedServer) -> redis.Redis:
    return redis.Redis.from_url(server.url, decode_responses=True)


def kill(server: EmbeddedServer) -> None:
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: not server.is_alive())


def wait_until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_answers_on_a_private_socket_and_keeps_every_write(servers):
    server = servers(maxmemory=100_000_000)
    server.start()
    with client(server) as redis:
        config = redis.config_get("*")
    expected = {
        "appendonly": "yes",
        "appendfsync": "always",
        "no-appendfsync-on-rewrite": "no",
        "maxmemory-policy": "noeviction",
        "maxmemory": "100000000",
        "save": "",
        "port": "0",
        "aof-load-truncated": "yes",
    }
    assert expected == {name: config[name] for name in expected}
    assert stat.S_IMODE(server.socket.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700
    assert len(bytes(server.socket)) < 104


def test_what_was_written_is_there_after_kill(servers):
    server = servers()
    server.start()
    with client(server) as redis:
        redis.set("a", "1")
    kill(server)
    server.start()
    with client(server) as redis:
        assert redis.get("a") == "1"


def test_a_server_that_outlived_its_owner_is_attached_to(servers):
    first, second = servers(), servers(maxmemory=200_000_000)
    first.start()
    second.start()
    assert (False, True) == (first.attached, second.attached)
    assert first.pid == second.pid
    with client(second) as redis:
        assert redis.config_get("maxmemory") == {"maxmemory": "200000000"}
    second.stop()
    assert not first.is_alive()


def test_a_server_outlives_the_kill_of_its_owner_and_still_holds_the_lock(servers, tmp_path):
    code = (
        "import sys, time, pathlib; from eventrouter.embedded import EmbeddedServer\n"
        "s = EmbeddedServer(pathlib.Path(sys.argv[1])); s.start(); print(s.pid, flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "data dir")], stdout=subprocess.PIPE)
    pid = int(owner.stdout.readline())
    owner.kill()
    owner.communicate()
    server = servers()
    server.start()
    assert (pid, True) == (server.pid, server.attached)


def test_owners_that_start_at_once_share_one_server(servers):
    both = [servers() for _ in range(4)]
    threads = [threading.Thread(target=server.start) for server in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({server.pid for server in both}) == 1
    assert sorted(server.attached for server in both) == [False, True, True, True]


def test_a_server_that_was_killed_is_told_from_one_that_ended_by_itself(servers):
    server = servers()
    server.start()
    assert not server.was_killed
    kill(server)
    assert server.was_killed
    server.start()
    os.kill(server.pid, signal.SIGTERM)
    wait_until(lambda: not server.is_alive())
    assert not server.was_killed


def test_a_cut_tail_of_the_append_only_file_loads(servers):
    server = servers()
    server.start()
    with client(server) as redis:
        redis.set("a", "1")
        redis.set("b", "2" * 100)
    kill(server)
    (file,) = server.directory.glob("appendonlydir/*.incr.aof")
    with file.open("r+b") as aof:
        aof.truncate(file.stat().st_size - 30)
    server.start()
    with client(server) as redis:
        assert (redis.get("a"), redis.get("b")) == ("1", None)


def test_a_broken_append_only_file_is_a_clear_error_with_the_servers_own_words(servers):
    server = servers()
    server.start()
    server.stop()
    (file,) = server.directory.glob("appendonlydir/*.incr.aof")
    file.write_bytes(b"nonsense\r\n" * 10)
    with pytest.raises(StartError, match="ended at its start") as caught:
        server.start()
    assert "Bad file format" in str(caught.value)
    assert "valkey.log" in caught.value.hint


def test_a_holder_that_does_not_answer_is_named(servers, monkeypatch):
    monkeypatch.setattr(embedded, "SILENCE_SECONDS", 0.3)
    first = servers()
    first.start()
    first.socket.unlink()
    with pytest.raises(StartError, match=rf"\(process {first.pid}\) holds .* but doesn't answer"):
        servers().start()


def test_a_lost_socket_is_noticed_and_a_new_start_makes_a_new_one(servers):
    server = servers()
    server.start()
    assert server.is_reachable()
    server.socket.unlink()
    assert not server.is_reachable()
    server.stop()
    server.start()
    assert server.is_reachable()


def test_stopping_is_clean_and_leaves_no_socket_behind(servers):
    server = servers()
    server.start()
    server.stop()
    assert not server.is_alive()
    assert not server.socket.parent.exists()
    assert "ready to exit" in server.last_words()
    server.stop()


def test_a_socket_directory_of_someone_else_is_refused(servers):
    server = servers()
    server.socket.parent.symlink_to("/")
    try:
        with pytest.raises(StartError, match="is not a directory of this user"):
            server.start()
    finally:
        server.socket.parent.unlink()


def test_the_servers_log_is_bounded(servers, monkeypatch):
    monkeypatch.setattr(embedded, "LOG_BYTES", 100)
    server = servers()
    server.start()
    server.check_log()
    assert (server.directory / "valkey.log.1").stat().st_size > 100
    server.stop()
    assert (server.directory / "valkey.log").stat().st_size > 0


def test_a_start_can_be_abandoned_while_it_waits(servers):
    first, second = servers(), servers()
    first.start()
    os.kill(first.pid, signal.SIGSTOP)
    try:
        thread = threading.Thread(target=second.start)
        thread.start()
        time.sleep(0.1)
        second.abandon()
        thread.join(5)
        assert not thread.is_alive()
    finally:
        os.kill(first.pid, signal.SIGCONT)


def test_a_machine_without_a_server_gets_advice(servers, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(StartError, match="no embedded server for this machine") as caught:
        servers().start()
    assert "EVENTROUTER_REDIS_URL" in caught.value.hint


def test_the_servers_package_is_not_run_to_find_the_binary():
    code = (
        "import sys; from eventrouter.embedded import _binary; print(_binary());"
        "sys.exit('valkey' in sys.modules or 'redis' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shutil.which(Path(found.stdout.strip()))
