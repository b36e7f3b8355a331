"""`eventrouter status --watch`: again and again, whatever happens meanwhile; it ends by Ctrl-C."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import signal
import struct
import subprocess
import termios

import pytest
from rich.console import Console

from cli_kit import COMMAND, Place, wait_until
from eventrouter.cli.watch import Looks, screen
from eventrouter.embedded import EmbeddedServer
from eventrouter.settings import Settings

RULES = """
version: 1
sources: { website: { write_key: test-key } }
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("watch"))
    place.up()
    yield place
    place.close()


def lines(place: Place) -> list[dict]:
    return [json.loads(line) for line in (place.path / "lines").read_text().splitlines()]


def watching(place: Place, *arguments: str) -> subprocess.Popen:
    with (place.path / "lines").open("w") as out:
        return subprocess.Popen(
            [*COMMAND, "status", *arguments], cwd=place.path, env=place.environment, stdout=out, stderr=subprocess.PIPE
        )


def test_each_look_is_a_line_of_json_until_ctrl_c(place):
    process = watching(place, "--every", "0.5", "--json")
    wait_until(lambda: len(lines(place)) >= 2)
    (place.path / "f").write_text('{"type":"track","event":"E","userId":"u"}\n')
    place.run("send", "f")
    wait_until(lambda: any(line["per_second"]["accepted"] for line in lines(place)[1:]))
    process.send_signal(signal.SIGINT)
    assert (process.wait(20), process.stderr.read()) == (0, b"")
    process.stderr.close()
    found = lines(place)[-1]
    assert (found["events"]["accepted"], found["problem"]) == (1, "")


def test_a_terminal_shows_it_on_one_screen_and_what_was_seen_last_stays(place):
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = place.environment | {"TERM": "xterm"}
    process = subprocess.Popen(
        [*COMMAND, "status", "--watch"],
        cwd=place.path,
        env={name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")},
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(side)
    shown = b""
    while b"warehouse" not in shown:
        shown += os.read(main, 10_000)
    os.write(main, b"\x03")
    try:
        while more := os.read(main, 10_000):
            shown += more
    except OSError:  # so the end of a terminal is told
        pass
    os.close(main)
    assert process.wait(20) == 0
    on_screen, after = shown.split(b"\x1b[?1049l")
    assert b"\x1b[?1049h" in on_screen
    assert b"warehouse" in after
    assert b"Traceback" not in shown


async def test_a_server_that_goes_away_is_told_in_a_line_and_looked_for_again(tmp_path, monkeypatch):
    monkeypatch.setattr("eventrouter.cli.watch.CONNECT_SECONDS", 0.0)
    (tmp_path / "routes.yaml").write_text(RULES)
    looks = Looks(Settings(config=tmp_path / "routes.yaml", data_dir=tmp_path))
    server = EmbeddedServer(tmp_path)
    found = []
    for step in (lambda: None, server.start, server.stop, server.start):
        step()
        found.append(await looks.look())
    await looks.close()
    server.stop()
    assert ["events" in one for one in found] == [False, True, False, True]
    assert "is not reachable" in found[0]["problem"]
    assert found[2]["problem"].startswith("Redis is away: ")
    assert [len(one["problem"].splitlines()) for one in found] == [1, 0, 1, 0]


async def test_rates_are_those_between_two_looks(tmp_path, valkey, redis):
    (tmp_path / "routes.yaml").write_text(RULES)
    looks = Looks(Settings(config=tmp_path / "routes.yaml", data_dir=tmp_path, redis_url=valkey))
    assert (await looks.look())["per_second"]["accepted"] is None
    await redis.hincrby("er:{0}:counts", "accepted", 1000)
    assert (await looks.look())["per_second"]["accepted"] > 0
    assert (await looks.look())["per_second"]["accepted"] == 0
    await looks.close()


async def test_rules_that_change_are_those_of_the_next_look_and_broken_ones_are_told(tmp_path, valkey, redis):
    file = tmp_path / "routes.yaml"
    file.write_text(RULES)
    looks = Looks(Settings(config=file, data_dir=tmp_path, redis_url=valkey))
    first = await looks.look()
    file.write_text(RULES + "destinations: { out: { plugin: stdout } }\n")
    second = await looks.look()
    assert (first["rules"] != second["rules"], list(second["destinations"])) == (True, ["out", "warehouse"])
    file.write_text("version: 7\n")
    third = await looks.look()
    assert third["problem"].startswith("the rules file can't be used: ")
    assert (len(third["problem"].splitlines()), third["events"]["accepted"]) == (1, 0)
    file.write_text(RULES)
    assert (await looks.look())["problem"] == ""
    await looks.close()


async def test_the_disk_of_the_embedded_server_is_told_when_it_is_full(tmp_path, monkeypatch):
    (tmp_path / "routes.yaml").write_text(RULES)
    monkeypatch.setattr("eventrouter.disk.FULL_BYTES", 2**62)
    monkeypatch.setattr("eventrouter.cli.watch.CONNECT_SECONDS", 0.0)
    looks = Looks(Settings(config=tmp_path / "routes.yaml", data_dir=tmp_path))
    assert "is full: free some space" in (await looks.look())["problem"]
    await looks.close()


STATUS = {
    "at": "2026-11-24T17:00:00.000Z",
    "problem": "",
    "rules": "abc",
    "shards": 4,
    "processes": [{"kind": "worker", "host": "here", "pid": 7, "rules": "abc", "problem": ""}],
    "events": {"accepted": 12345, "in_log": 3, "duplicates": 0, "routed": 12342},
    "per_second": {"accepted": 12.0, "routed": 11.5, "rejected": 0.25},
    "rates_over_seconds": 2.0,
    "router": {"state": "ok", "reason": "", "turns_failed": 0, "oldest_seconds": 0.5},
    "destinations": {},
}
WELL = {
    "state": "ok",
    "reason": "",
    "waiting": 0,
    "dead": {},
    "oldest_seconds": None,
    "per_second": {"delivered": 1234.5, "failed": 0.0},
}


def shown(width: int = 80, **changes) -> list[str]:
    found = STATUS | changes
    console = Console(width=width, file=io.StringIO())
    console.print(screen(found, found, 2.0, console))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_with_a_broken_file_the_rules_in_use_are_told():
    found = shown(problem="the rules file can't be used: it is wrong", width=100)
    assert "rules   abc (the last good ones: the file can't be used), 4 shards, 1 worker" in found


def test_what_is_in_trouble_comes_first_with_its_reason_below():
    hold = WELL | {"state": "on hold", "reason": "HTTP 401", "next_try_seconds": 290.0, "waiting": 1234567}
    hold |= {"oldest_seconds": 7200.0, "dead": {"permanent": 2, "attempts": 1}}
    found = shown(destinations={"a": WELL, "crm": hold})
    assert found[-4:] == [
        "destination  state           sent/s failed/s   waiting  oldest   dead",
        "crm          on hold          1,234        0 1,234,567     2 h      3",
        "  HTTP 401 (next try in 4.83 min)",
        "a            ok               1,234        0         0",
    ]


def test_everything_fits_into_eighty_columns_but_reasons_which_fold():
    row = WELL | {"state": "failing", "reason": "x" * 200}
    found = shown(destinations={"n" * 64: row, "not-there": WELL | {"state": "paused, not in routes.yaml"}})
    assert max(map(len, found)) <= 80
    assert sum(line.count("x") for line in found) == 200
    assert "  paused, not in routes.yaml" in found


def test_nobody_who_works_is_told():
    assert "No worker is there: nothing is routed or delivered." in shown(processes=[])
    assert not any("No worker" in line for line in shown())


def test_while_nothing_is_known_the_last_numbers_stay_and_say_of_when_they_are():
    console = Console(width=80)
    found = {"at": "2026-11-24T17:00:09.000Z", "problem": "Redis is away"}
    text = screen(found, STATUS, 2.0, console).plain
    assert "Redis is away\nWhat follows is of " in text
    assert "12,345 accepted so far" in text
