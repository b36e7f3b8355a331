"""`eventrouter send`: a file of events, as a user sends it."""

import json
from pathlib import Path
from typing import Any

from system import System, names


def write(path: Path, *lines: Any) -> Path:
    text = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path


def test_a_file_is_sent_and_a_second_time_changes_nothing(plain: System, tmp_path: Path) -> None:
    events = [
        {"type": "track", "event": "Filed", "anonymousId": f"f{n % 7}", "properties": {"n": n, "big": 2**90}}
        for n in range(1000)
    ]
    file = write(tmp_path / "events.jsonl", *events)
    for _ in range(2):
        done = plain.run("send", file)
        assert (done.returncode, done.stdout) == (0, "Sent 1000 events, 0 lines were refused.\n")
    plain.rows(1000, "SELECT n FROM filed")
    assert plain.sql("SELECT count(DISTINCT n) AS n FROM filed") == [{"n": 1000}]
    assert plain.sql("SELECT count(*) AS n FROM filed WHERE source_name = 'website'") == [{"n": 1000}]


def test_a_line_that_is_refused_is_told_and_costs_no_other(plain: System, tmp_path: Path) -> None:
    file = write(
        tmp_path / "mixed.jsonl",
        {"type": "track", "event": "Mixed", "anonymousId": "a", "messageId": "mixed-1"},
        "not json",
        "[1, 2]",
        "",
        {"type": "track", "anonymousId": "a"},
        {"type": "track", "event": "Mixed", "anonymousId": "a", "properties": {"text": "x" * 600_000}},
        {"type": "track", "event": "Mixed", "anonymousId": "a", "messageId": "mixed-2", "properties": {"ü": "ß"}},
    )
    done = plain.run("send", file)
    assert (done.returncode, done.stdout) == (1, "Sent 2 events, 4 lines were refused.\n")
    assert [line.split(": ")[:2] for line in done.stderr.splitlines()] == [
        ["line 2", "invalid_json"],
        ["line 3", "not_an_object"],
        ["line 5", "event_not_defined"],
        ["line 6", "too_large"],
    ]
    assert names(plain.events(2, "Mixed"), "messageId") == ["mixed-1", "mixed-2"]


def test_another_source_and_stdin_and_json(plain: System) -> None:
    line = b'{"type": "track", "event": "Piped", "anonymousId": "a"}\n'
    done = plain.run("send", "-", "--source", "app", "--json", stdin=line * 3)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"sent": 3, "rejected": []})
    plain.events(3, "Piped")
    assert names(plain.sql("SELECT DISTINCT source FROM events WHERE payload LIKE '%Piped%'"), "source") == ["app"]


def test_what_keeps_it_from_sending_is_said(plain: System, tmp_path: Path) -> None:
    file = write(tmp_path / "one.jsonl", {"type": "track", "event": "Unsent", "anonymousId": "a"})
    wrong = [
        (["send", file, "--write-key", "wrong"], "refuses the write key"),
        (["send", file, "--source", "nobody"], "no source 'nobody'"),
        (["send", tmp_path / "missing.jsonl"], "No such file"),
        (["send", file, "--url", f"{plain.url}/elsewhere"], "no collector at"),
    ]
    for command, message in wrong:
        done = plain.run(*command)
        assert done.returncode == 1, command
        assert message in done.stderr
        assert "hint: " in done.stderr
        assert "Traceback" not in done.stderr
