"""Starting, stopping and starting again; and all that may be wrong at a start."""

import json
import shlex
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from http_sink import Sink
from plugin_package import install
from system import System, steadily, until

from eventrouter.testing import Answer

RULES = """
version: 1
sources: { website: { write_key: key-website } }
destinations:
  all:
    plugin: webhook
    retry: { initial: 100ms, max_interval: 500ms }
    options: { url: "${SINK}${SINK_PATH}", allow_private: true }
routes:
  - { to: all }
"""

ENVIRONMENT = {"SINK_PATH": "/shared"}
"""Of the `system` that tests share which only look at it."""

HOOK = "from eventrouter import hookimpl\n@hookimpl\n"


def test_up_needs_no_options_and_says_how_to_try_it(system: System, sink: Sink) -> None:
    printed = until(lambda: text if "eventrouter status" in (text := system.output.read_text()) else "")
    assert "is ready" in printed
    assert str(system.data / "warehouse.sqlite3") in printed
    [command] = [shlex.split(line) for line in printed.splitlines() if line.strip().startswith("curl")]
    assert command[:3] == ["curl", "-u", "key-website:"]
    assert command[3] == f"{system.url}/v1/track"
    assert command[4] == "-d"
    assert (
        system.post(
            "/v1/track", command[5].encode(), headers={"Content-Type": "application/x-www-form-urlencoded"}
        ).status
        == 200
    )
    assert [hit.json["event"] for hit in sink.wait("/shared", 1)] == ["Hello"]
    assert system.rows(1, "SELECT total FROM hello") == [{"total": 42}]


def test_sigterm_drains_and_the_same_command_goes_on(start: Callable[..., System], sink: Sink) -> None:
    path = {"SINK_PATH": "/stop"}
    sink.always("/stop", Answer(503))
    system = start(RULES, path)
    for n in range(20):
        system.track("Stopped", f"a{n % 4}", messageId=f"stop-{n}", properties={"n": n})
    until(lambda: sink.at("/stop"))
    started = time.monotonic()
    assert system.stop() == 0
    assert time.monotonic() - started < 15
    assert "Traceback" not in system.log
    sink.always("/stop", None)
    system.start()
    hits = sink.wait("/stop", 20)
    for who in range(4):
        numbers = [hit.json["properties"]["n"] for hit in hits if hit.json["anonymousId"] == f"a{who}"]
        assert numbers == sorted(numbers)
    system.events(20, "Stopped")
    system.track("Stopped", "a0", messageId="stop-0")  # a duplicate, remembered
    system.track("Stopped", "a0", messageId="stop-end")
    sink.wait("/stop", 21)
    assert steadily(lambda: len(sink.taken("/stop")) == 21)
    assert system.stop() == 0


def test_several_workers_keep_order_and_count(start: Callable[..., System], sink: Sink) -> None:
    system = start(RULES, {"SINK_PATH": "/workers", "EVENTROUTER_WORKERS": "3", "EVENTROUTER_SHARDS": "3"})
    for n in range(30):
        system.send(
            *(
                {"type": "track", "event": "Shared", "anonymousId": f"w{who}", "properties": {"n": n}}
                for who in range(20)
            )
        )
    hits = sink.wait("/workers", 600)
    for who in range(20):
        numbers = [hit.json["properties"]["n"] for hit in hits if hit.json["anonymousId"] == f"w{who}"]
        assert numbers == list(range(30))
    system.rows(600, "SELECT n FROM shared")
    assert len({row["person_id"] for row in system.sql("SELECT person_id FROM events")}) == 20
    assert system.stop() == 0
    assert "Traceback" not in system.log


def test_an_attempt_under_way_is_finished_before_the_stop(start: Callable[..., System], sink: Sink) -> None:
    sink.answer("/slow-stop", Answer(delay=3))
    system = start(RULES, {"SINK_PATH": "/slow-stop"})
    system.track("Slow", "a", messageId="slow")
    until(lambda: sink.at("/slow-stop"))
    assert system.stop() == 0
    system.start()
    system.track("Slow", "a", messageId="after")
    sink.wait("/slow-stop", 2)
    assert [hit.json["messageId"] for hit in sink.at("/slow-stop")] == ["slow", "after"]


def test_a_second_up_on_the_same_data_or_port_is_refused(system: System, tmp_path: Path) -> None:
    same_data = system.run("up", "--port", system.port + 1)
    assert same_data.returncode == 1
    assert f"the data directory {system.data} is in use by `eventrouter up`" in same_data.stderr
    assert "hint: stop that one first" in same_data.stderr
    same_port = system.run("up", "--data-dir", tmp_path / "other")
    assert same_port.returncode == 1
    assert f"port {system.port} of 127.0.0.1 is in use" in same_port.stderr
    assert "--port" in same_port.stderr
    assert system.is_ready()
    alone = system.run("collect")
    assert alone.returncode == 1
    assert f"port {system.port}" in alone.stderr
    assert "Traceback" not in same_data.stderr + same_port.stderr + alone.stderr


def test_another_number_of_shards_is_refused_by_up(start: Callable[..., System]) -> None:
    system = start(RULES, {"SINK_PATH": "/shards"})
    assert system.stop() == 0
    system.environment["EVENTROUTER_SHARDS"] = "2"
    done = system.run("up")
    assert done.returncode == 1
    assert "this event log has 4 shards, not 2" in done.stderr
    assert "hint: set EVENTROUTER_SHARDS=4" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("wrong", "place", "message"),
    [
        ("plugin: webhok", ":6:", "did you mean `webhook`?"),
        ("plugin: webhook, options: { url: 'ftp://x' }", ":6:", "http://"),
        ("plugin: webhook, options: { url: 'http://x', sekret: y }", ":6:", "sekret"),
        ("plugin: webhook", ":5:", "needs the option `url`"),
        ("plugin: webhook, options: { url: '${NOWHERE}' }", ":6:", "NOWHERE"),
        ("plugin: webhook, options: { url: 'http://x' }, retry: { initial: soon }", ":6:", "retry.initial"),
        ("plugin: webhook, options: { url: 'http://x' }, batch: { size: 0 }", ":6:", "batch.size"),
    ],
)
def test_a_wrong_destination_stops_the_start_with_its_place(
    tmp_path: Path, wrong: str, place: str, message: str
) -> None:
    rules = f"""
version: 1
sources: {{ website: {{ write_key: key-website }} }}
destinations:
  wrong:
    {{ {wrong} }}
routes: [{{ to: wrong }}]
"""
    done = System(tmp_path, rules).run("up")
    assert done.returncode == 78
    assert f"routes.yaml{place}" in done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_check_tells_every_problem_at_once(tmp_path: Path) -> None:
    rules = """
version: 1
sources:
  website: { write_key: key-website }
  app: { write_key: key-website }
destinations:
  a: { plugin: nothing }
routes:
  - { to: b, when: event = "x" }
  - { to: a, wen: true }
"""
    system = System(tmp_path, rules)
    done = system.run("check")
    assert done.returncode == 78
    for place in (":5:", ":7:", ":9:", ":10:"):
        assert f"routes.yaml{place}" in done.stderr
    assert "compare with ==" in done.stderr
    assert "when: event = " in done.stderr
    listed = json.loads(system.run("check", "--json").stdout)
    assert listed["ok"] is False
    assert {problem["line"] for problem in listed["problems"]} >= {5, 7, 9, 10}
    assert all(problem["message"] for problem in listed["problems"])


@pytest.mark.parametrize("text", ["", "version: 1\nsources: [", "\t", "version: 7\nsources: {}\n", "a: &a [*a]", "\0"])
def test_a_file_that_holds_no_rules_is_told(tmp_path: Path, text: str) -> None:
    done = System(tmp_path, text).run("check")
    assert done.returncode == 78
    assert "routes.yaml" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("EVENTROUTER_PORT", "high", "EVENTROUTER_PORT"),
        ("EVENTROUTER_SHARDS", "0", "EVENTROUTER_SHARDS"),
        ("EVENTROUTER_REDIS_URL", "localhost:6379", "EVENTROUTER_REDIS_URL"),
        ("EVENTROUTER_MAXMEMORY", "much", "EVENTROUTER_MAXMEMORY"),
        ("EVENTROUTER_DATA_DIR", "/dev/null/data", "/dev/null/data"),
        ("EVENTROUTER_HOST", "nowhere.invalid", "nowhere.invalid"),
    ],
)
def test_a_wrong_setting_is_told_by_its_name(tmp_path: Path, name: str, value: str, message: str) -> None:
    done = System(tmp_path, RULES.replace("${SINK_PATH}", ""), {"SINK": "http://x", name: value}).run("up")
    assert done.returncode in (1, 78)
    assert message in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "from eventrouter import hookimpl\n@hookimpl\ndef register_destinations():\n    return [int]\n",
            "not a subclass",
        ),
        ("from eventrouter import hookimpl\n@hookimpl\ndef register_destination(): ...\n", "does not fit the hooks"),
    ],
)
def test_a_broken_plugin_is_named(tmp_path: Path, source: str, message: str) -> None:
    path = install(tmp_path / "plugin", "broken", source)
    system = System(tmp_path, RULES, {"SINK": "http://x", "SINK_PATH": "/", "PYTHONPATH": path})
    for command in ("up", "plugins"):
        done = system.run(command)
        assert done.returncode == 1
        assert message in done.stderr
        assert "'broken' of the package broken 1.0" in done.stderr
        assert "pip uninstall broken" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_plugin_that_cannot_be_imported_stops_a_start_only_where_the_rules_name_it(tmp_path: Path) -> None:
    path = install(tmp_path / "plugin", "broken", "import nothing_of_this_name")
    environ = {"SINK": "http://x", "SINK_PATH": "/", "PYTHONPATH": path}
    system = System(tmp_path, RULES, environ)
    why = "plugin 'broken' of the package broken 1.0 can't be imported from broken: ModuleNotFoundError"
    checked, listed = system.run("check"), system.run("plugins")
    assert (checked.returncode, listed.returncode) == (0, 0)
    assert f"plugins: warning: {why}" in checked.stderr
    assert "broken" in [line.split()[0] for line in listed.stdout.splitlines() if line.split()]
    done = System(tmp_path, RULES.replace("plugin: webhook", "plugin: broken"), environ).run("up")
    assert done.returncode == 78
    assert "no installed plugin is called `broken`" in done.stderr
    assert why in done.stderr


def test_commands_without_a_server_say_what_to_do(tmp_path: Path) -> None:
    system = System(tmp_path, RULES, {"SINK": "http://x", "SINK_PATH": "/"})
    done = system.run("status")
    assert done.returncode == 1
    assert f"there is no data directory {system.data}" in done.stderr
    assert "name that of your `eventrouter up` with --data-dir" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_listens_already_is_left_alone(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port: Any = other.getsockname()[1]
        done = System(tmp_path, RULES, {"SINK": "http://x", "SINK_PATH": "/"}).run("up", "--port", port)
    assert done.returncode == 1
    assert f"port {port} of 127.0.0.1 is in use" in done.stderr
