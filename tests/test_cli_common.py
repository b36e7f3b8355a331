"""What several commands share."""

from __future__ import annotations

import re
import socket
from datetime import UTC, datetime, timedelta

import pytest
import typer
from redis.exceptions import ResponseError

from eventrouter import logs
from eventrouter.cli import common
from eventrouter.cli.common import (
    counted,
    opened,
    print_json,
    print_table,
    read_time,
    read_window,
    short_duration,
)
from eventrouter.errors import StartError, UnavailableError
from eventrouter.settings import Settings


@pytest.fixture(autouse=True)
def _restore():
    yield
    logs._hidden.clear()
    logs._hidden_pattern = None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-24", datetime(2026, 11, 24, tzinfo=UTC)),
        ("2026-11-24T17:00", datetime(2026, 11, 24, 17, tzinfo=UTC)),
        ("2026-11-24T17:00:00.5Z", datetime(2026, 11, 24, 17, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-11-24T17:00+02:00", datetime(2026, 11, 24, 15, tzinfo=UTC)),
        (None, None),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(text, expected):
    assert expected == read_time(text)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("2h", 7200), ("1.5d", 129_600), ("10m", 600)])
def test_a_duration_is_a_time_ago(text, seconds):
    assert abs(datetime.now(UTC) - timedelta(seconds=seconds) - read_time(text)) < timedelta(seconds=5)


@pytest.mark.parametrize("text", ["yesterday", "99999999d", f"{'9' * 400}h", "0001-01-01T00:00+02:00", "2026-02-30"])
def test_what_is_no_time_is_told(text):
    with pytest.raises(typer.BadParameter, match=f"{re.escape(repr(text))} is not a time; write 2h"):
        read_time(text)


def test_a_window_is_open_where_nothing_is_said():
    assert (None, datetime(2026, 11, 24, tzinfo=UTC)) == read_window(None, "2026-11-24")


@pytest.mark.parametrize(("since", "until"), [("1h", "2h"), ("2026-11-24", "2026-11-24")])
def test_a_window_in_which_nothing_can_lie_is_refused(since, until):
    with pytest.raises(typer.BadParameter, match=f"nothing lies between {since} and {until}"):
        read_window(since, until)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, ""), (0.25, "0.25 s"), (89, "89 s"), (120, "2 min"), (7200, "2 h"), (3e5, "3.47 d")],
)
def test_durations_are_short(seconds, expected):
    assert expected == short_duration(seconds)


def test_nothing_in_a_table_is_markup(capsys):
    print_table(["a", "b"], [["[red]x[/red]", None], ["[/]", 3]])
    text = capsys.readouterr().out
    assert "[red]x[/red]" in text
    assert "[/]" in text


COLUMNS = ["destination", "state", "message_id", "reason"]


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of so many columns."""
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    return lambda columns: monkeypatch.setenv("COLUMNS", str(columns))


def printed(capsys) -> list[str]:
    """The lines on stdout, without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()


def test_a_table_fits_a_terminal_and_loses_nothing(capsys, terminal):
    terminal(70)
    print_table(COLUMNS, [["crm-of-the-whole-company", "on hold", "m-1", "HTTP 401: the key of the service is wrong"]])
    lines = printed(capsys)
    assert max(map(len, lines)) <= 70
    assert "…" not in "".join(lines)
    assert "message_id" in lines[1]


def test_a_table_that_does_not_fit_is_some_lines_for_each_row(capsys, terminal):
    terminal(60)
    row = ["crm", "on hold", "send-074cfda7ab1cc7db3ac0e3edfae0", "HTTP 401: " + "x" * 60]
    print_table(COLUMNS, [row, ["ads", "", "m", ""]])
    assert [line.rstrip() for line in printed(capsys)] == [
        "crm",
        "  state on hold",
        "  message id send-074cfda7ab1cc7db3ac0e3edfae0",
        "  reason HTTP 401:",
        f"  {'x' * 58}",
        "  xx",
        "ads",
        "  message id m",
    ]


def test_columns_without_content_are_left_out(capsys):
    print_table(["name", "oldest", "reason"], [["crm", None, ""], ["ads", "", None]])
    assert [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()] == [
        ["name"],
        ["────"],
        ["crm"],
        ["ads"],
    ]


@pytest.mark.parametrize(("number", "text"), [(0, "0 events"), (1, "1 event"), (2, "2 events")])
def test_numbers_have_their_words(number, text):
    assert text == counted(number, "event")


def test_json_holds_times_and_foreign_letters(capsys):
    print_json({"at": datetime(2026, 11, 24, tzinfo=UTC), "name": "Zoë"})
    assert capsys.readouterr().out == '{\n  "at": "2026-11-24 00:00:00+00:00",\n  "name": "Zoë"\n}\n'


async def test_a_server_that_says_nothing_is_told_soon(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "SILENT_SECONDS", 0.1)
    monkeypatch.setattr(common, "CONNECT_SECONDS", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = Settings(redis_url=f"redis://127.0.0.1:{silent.getsockname()[1]}/0", data_dir=tmp_path)
        with pytest.raises(StartError, match="takes connections, but does not answer"):
            async with opened(settings, rules=False):
                pass


async def test_a_server_that_fails_later_is_no_traceback(tmp_path, valkey):
    with pytest.raises(UnavailableError, match=r"the Redis at unix://.* failed at this: wrong kind"):
        async with opened(Settings(redis_url=valkey, data_dir=tmp_path), rules=False):
            raise ResponseError("wrong kind")
