"""`eventrouter up`: one command, ready in a moment, that nothing can stop from going on where it was."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import time

import psutil
import pytest

from cli_kit import RULES, Place, free_port, wait_until
from eventrouter import disk
from eventrouter.cli.up import COMMAND, child_environment, own_name, reachable, run, show
from eventrouter.errors import StartError
from eventrouter.settings import Settings


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    yield place
    print(place.err)  # shown when the test fails
    place.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A place where an `up` runs that all tests share which leave it as it is."""
    place = Place(tmp_path_factory.mktemp("running"))
    try:
        place.up()
        yield place
    finally:
        print(place.err)
        place.close()


def rows(place: Place, table: str) -> int:
    try:
        with sqlite3.connect(f"file:{place.path}/.eventrouter/warehouse.sqlite3?mode=ro", uri=True) as database:
            return database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def curl_of(place: Place) -> str:
    return re.search(r"curl .*", place.out)[0]


def paste(place: Place) -> str:
    return subprocess.run(curl_of(place), shell=True, capture_output=True, text=True).stdout


def children_of(pid: int) -> dict[int, str]:
    found = {}
    for one in psutil.Process(pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            found[one.pid] = " ".join([one.name(), *one.cmdline()])
    return found


def child_of(pid: int, what: str) -> int:
    return next(one for one, args in children_of(pid).items() if what in args)


def test_it_says_where_everything_is_and_its_curl_works_when_pasted(running):
    assert f"listens at  {running.url}" in running.out
    assert "write key   test-key (source website)" in running.out
    assert ".eventrouter/warehouse.sqlite3" in running.out
    answer = subprocess.run(curl_of(running), shell=True, capture_output=True, text=True, check=True)
    assert answer.stdout == '{"success": true}'
    wait_until(lambda: rows(running, "hello") == 1)


def test_after_kill_of_everything_the_same_command_goes_on(place):
    process = place.up()
    subprocess.run(curl_of(place), shell=True, capture_output=True, check=True)
    victims = [*children_of(process.pid), process.pid]
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    process.wait()
    process = place.up()
    subprocess.run(curl_of(place), shell=True, capture_output=True, check=True)
    wait_until(lambda: rows(place, "hello") == 2)
    assert place.stop(process) == 0


def test_after_kill_of_up_alone_its_children_end_and_the_server_is_attached_to(place):
    process = place.up()
    valkey = child_of(process.pid, "valkey-server")
    process.kill()
    process.wait()
    process = place.up()
    assert f'"pid": {valkey}, "event": "Attached to the Valkey of an earlier run"' in place.err
    subprocess.run(curl_of(place), shell=True, capture_output=True, check=True)
    wait_until(lambda: rows(place, "hello") == 1)
    assert place.stop(process) == 0
    # A container's first process may leave an orphan as a zombie.
    assert not psutil.pid_exists(valkey) or psutil.Process(valkey).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("what", ["eventrouter collect", "eventrouter work", "valkey-server"])
def test_a_child_that_dies_is_started_again_and_events_go_on(place, what):
    process = place.up()
    victim = child_of(process.pid, what)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: any(what in args for one, args in children_of(process.pid).items() if one != victim))
    wait_until(lambda: '"success": true' in paste(place))
    wait_until(lambda: rows(place, "hello") >= 1)
    assert place.stop(process) == 0


def test_no_connection_is_refused_while_the_collector_starts_again(place):
    process = place.up()
    os.kill(child_of(process.pid, "eventrouter collect"), signal.SIGKILL)
    answer = subprocess.run(curl_of(place) + " -s --max-time 20", shell=True, capture_output=True, text=True)
    assert answer.stdout == '{"success": true}'
    assert place.stop(process) == 0


def test_a_second_one_is_told_who_runs(running):
    [process] = running.running
    second = running.run("up", "--port", "1")
    assert second.returncode == 1
    assert f"the data directory .eventrouter is in use by `eventrouter up` (process {process.pid})" in second.stderr
    assert process.poll() is None


def test_who_uses_the_data_directory_is_told_rather_than_who_uses_the_port(running):
    [process] = running.running
    for _ in range(2):
        second = running.run("up")
        assert f"in use by `eventrouter up` (process {process.pid})" in second.stderr


def test_a_bad_configuration_is_told_once_with_all_problems(place):
    (place.path / "routes.yaml").write_text(
        "version: 1\nsources: {web: {write_key: k}}\ndestinations: {a: {plugin: nope}, b: {plugin: neither}}\n"
    )
    result = place.run("up")
    assert result.returncode == 78
    assert (result.stderr.count("`nope`"), result.stderr.count("`neither`")) == (1, 1)
    assert "Traceback" not in result.stderr


def test_a_port_in_use_is_told(place):
    with socket.create_server(("127.0.0.1", place.port)):
        result = place.run("up")
    assert (result.returncode, f"port {place.port} of 127.0.0.1 is in use" in result.stderr) == (1, True)


@pytest.mark.parametrize("rules", ["version: 1\nsources: 3\n", None])
def test_a_first_start_that_fails_leaves_nothing_behind(place, rules):
    file = place.path / "routes.yaml"
    if rules:
        file.write_text(rules)
        result = place.run("up", "--data-dir", "data")
        assert (result.returncode, "routes.yaml:2:10: " in result.stderr) == (78, True)
        assert (result.stdout, place.files()) == ("", ["routes.yaml"])
        (place.path / "data").mkdir()
        later = place.run("up", "--data-dir", "data")
        assert (later.returncode, later.stderr) == (result.returncode, result.stderr)
        return
    file.unlink()
    with socket.create_server(("127.0.0.1", place.port)):
        result = place.run("up")
    assert (result.returncode, f"port {place.port} of" in result.stderr) == (1, True)
    assert (result.stdout, place.files()) == ("", [])


def test_a_start_on_a_full_disk_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "FULL_BYTES", 2**80)
    (tmp_path / "routes.yaml").write_text(RULES)
    settings = Settings(config=tmp_path / "routes.yaml", data_dir=tmp_path / "data", port=free_port())
    with pytest.raises(StartError, match=f"the disk of the data directory {tmp_path}/data is full"):
        run(settings)
    assert [file.name for file in tmp_path.iterdir()] == ["routes.yaml"]


def test_an_unreachable_redis_is_told_without_its_password_and_events_are_taken(place):
    process = place.up(EVENTROUTER_REDIS_URL="redis://me:hunter2hunter2@127.0.0.1:1/0")
    told = "  away        the Redis at redis://**********@127.0.0.1:1/0 is not reachable ("
    wait_until(lambda: told in place.out)
    assert place.stop(process) == 0
    assert "hunter2" not in place.out + place.err


def test_an_unreachable_redis_without_a_spool_ends_the_start(place):
    rules = place.path / "routes.yaml"
    rules.write_text(rules.read_text() + "collect: { spool: { max_bytes: 0 } }\n")
    result = place.run("up", EVENTROUTER_REDIS_URL="redis://127.0.0.1:1/0")
    assert (result.returncode, "is not reachable" in result.stderr) == (1, True)
    assert place.files() == ["routes.yaml"]


def test_a_server_of_ones_own_is_used_and_its_weaknesses_are_told(place, valkey):
    process = place.up(EVENTROUTER_REDIS_URL=valkey)
    wait_until(lambda: "set appendfsync always" in place.err)
    assert not any("valkey-server" in args for args in children_of(process.pid).values())
    assert place.stop(process) == 0


def test_without_rules_it_begins_with_the_default_ones(place):
    (place.path / "routes.yaml").unlink()
    process = place.up()
    assert "There was no routes.yaml: wrote the default one." in place.out
    assert place.stop(process) == 0
    assert place.run("check").returncode == 0


def test_rules_that_are_gone_are_not_replaced_by_the_default_ones_while_the_last_good_ones_are_known(place):
    place.stop(place.up())
    (place.path / "routes.yaml").unlink()
    process = place.up()
    assert "so the last good rules are in use:\n    routes.yaml: there is no such file" in place.out
    assert "routes.yaml" not in place.files()
    assert '"success": true' in paste(place)
    assert place.stop(process) == 0


def test_rules_that_were_named_are_not_made_up(place):
    result = place.run("up", "--config", "mine.yaml")
    assert (result.returncode, "mine.yaml: there is no such file" in result.stderr) == (78, True)


def test_several_workers_run(place):
    process = place.up("--workers", "2")
    wait_until(lambda: sum("eventrouter work" in args for args in children_of(process.pid).values()) == 2)
    assert place.stop(process) == 0


def test_ctrl_c_ends_it_too(place):
    process = place.up()
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert time.monotonic() - started < 10


def test_children_get_the_settings_by_their_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("EVENTROUTER_SHARDS", raising=False)
    environment = child_environment(Settings(data_dir=tmp_path, port=8123))
    assert (environment["EVENTROUTER_DATA_DIR"], environment["EVENTROUTER_PORT"]) == (str(tmp_path), "8123")
    assert "EVENTROUTER_REDIS_URL" not in environment
    assert environment["EVENTROUTER_WORKER_GROUP"] == ""  # that of `up` itself means nothing


@pytest.mark.parametrize(
    ("host", "expected"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("192.168.0.7", "192.168.0.7")]
)
def test_an_address_for_everyone_is_shown_as_one_to_connect_to(host, expected):
    assert expected == reachable(host)


def test_rules_without_a_write_key_are_shown_without_a_curl(capsys):
    show(Settings(host="::"), {"warehouse": "w"}, 0.5)
    text = capsys.readouterr().out
    assert "http://[::1]:8000" in text
    assert "write key   none" in text
    assert "curl" not in text


def test_the_next_command_is_named_so_that_the_shell_finds_it(monkeypatch, tmp_path):
    script = tmp_path / "eventrouter"
    script.write_text("")
    script.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    for started in (script, "/lib/eventrouter/__main__.py"):
        monkeypatch.setattr("sys.argv", [str(started)])
        monkeypatch.setenv("PATH", str(tmp_path))
        assert own_name() == "eventrouter"
        monkeypatch.setenv("PATH", "/nowhere")
        assert own_name() == (str(script) if started == script else shlex.join(COMMAND))


def test_the_shown_status_command_works_when_pasted(place):
    (place.path / "my rules.yaml").write_text(RULES)
    process = place.up("--config", "my rules.yaml", "--data-dir", "the data")
    command = re.search(r"^  (.*status.*)$", place.out, re.MULTILINE)[1]
    assert command.endswith(" status --config 'my rules.yaml' --data-dir 'the data'")
    done = subprocess.run(command, shell=True, cwd=place.path, env=place.environment, capture_output=True, text=True)
    assert (done.returncode, "accepted 0" in done.stdout) == (0, True), done.stderr
    assert place.stop(process) == 0
