"""A file of the spool: what it has said to be on disk is there after any crash, in order, and one process has it."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys

import pytest

from eventrouter.spool_file import SMALL_BYTES, ForeignFileError, SpoolFile, Totals


@pytest.fixture
def path(tmp_path):
    return tmp_path / "1.sqlite3"


@pytest.fixture
def file(path):
    one = SpoolFile.open(path)
    yield one
    one.close()


def texts(file, max_bytes=10**9, max_events=10**9):
    return [row.data.decode() for row in file.read(max_bytes, max_events)]


def fill(file, *data, events=1):
    for number, text in enumerate(data):
        file.append(1000 + number, events, text.encode())


def test_entries_are_read_in_their_order_and_stay_until_they_are_removed(file):
    fill(file, "a", "b", "c")
    assert ["a", "b", "c"] == texts(file) == texts(file)
    file.remove(file.read(1, 1)[0].id)
    assert ["b", "c"] == texts(file)
    assert Totals(2, 2, 2, 1001) == file.totals()
    assert 1001 == file.oldest_ms()


def test_reading_is_bounded_by_bytes_and_by_events(file):
    fill(file, *["x" * 100] * 10, events=5)
    assert 3 == len(texts(file, max_bytes=250))
    assert 2 == len(texts(file, max_events=10))
    assert 1 == len(texts(file, max_bytes=1))


def test_an_empty_file_has_nothing(file):
    assert ([], Totals(), 0) == (texts(file), file.totals(), file.oldest_ms())


def test_what_was_appended_is_there_at_the_next_open(path):
    file = SpoolFile.open(path)
    fill(file, "a", "b")
    file.close()
    again = SpoolFile.open(path)
    fill(again, "c")
    assert ["a", "b", "c"] == texts(again)
    again.close()


def test_numbers_are_never_used_twice(path):
    file = SpoolFile.open(path)
    fill(file, "a")
    [first] = file.read(1, 1)
    file.remove(first.id)
    file.compact()
    fill(file, "b")
    assert file.read(1, 1)[0].id > first.id
    file.close()


def test_a_file_has_one_process(file, path):
    assert SpoolFile.open(path) is None
    program = (
        "import sys; from pathlib import Path; from eventrouter.spool_file import SpoolFile;"
        "print(SpoolFile.open(Path(sys.argv[1])))"
    )
    assert "None\n" == subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True).stdout
    fill(file, "a")
    file.close()
    again = SpoolFile.open(path)
    assert ["a"] == texts(again)
    again.close()


def test_others_may_not_read_it(file, path):
    fill(file, "a")
    assert {0o600} == {one.stat().st_mode & 0o777 for one in path.parent.iterdir()}


def test_a_power_cut_leaves_the_beginning_of_what_was_written(file, path, tmp_path):
    # The disk of a machine that lost its power: the write-ahead log ends anywhere, or with nonsense.
    fill(file, *(f"{number}" * 5000 for number in range(10)))
    kept = texts(file)
    rng = random.Random(1)
    wal = (path.parent / f"{path.name}-wal").read_bytes()
    lengths = set()
    for trial in range(30):
        copy = tmp_path / f"copy{trial}.sqlite3"
        shutil.copyfile(path, copy)
        cut = rng.randrange(len(wal) + 1)
        torn = wal[:cut] + (rng.randbytes(5000) if trial % 2 else b"")
        (tmp_path / f"{copy.name}-wal").write_bytes(torn)
        found = SpoolFile.open(copy)
        assert kept[: len(texts(found))] == texts(found)
        lengths.add(len(texts(found)))
        fill(found, "after")
        assert "after" == texts(found)[-1]
        found.close()
    assert len(lengths) > 4


def test_a_write_that_fails_is_not_there_and_the_next_one_succeeds(file):
    fill(file, "a")
    file._connection.execute("PRAGMA max_page_count = 5")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        fill(file, "x" * 200_000)
    fill(file, "b")
    file._connection.execute("PRAGMA max_page_count = 100000")
    fill(file, "c")
    assert ["a", "b", "c"] == texts(file)


def test_after_a_failure_what_was_kept_is_written_anew_before_anything_follows(file, path, tmp_path):
    fill(file, "a", "b")
    file._connection.execute("PRAGMA max_page_count = 5")
    with pytest.raises(sqlite3.OperationalError):
        fill(file, "x" * 200_000)
    fill(file, "c")
    # The main file alone has all from before the failure: the log may be untrue on the disk.
    shutil.copyfile(path, tmp_path / "main.sqlite3")
    main = SpoolFile.open(tmp_path / "main.sqlite3")
    assert ["a", "b"] == texts(main)[:2]
    main.close()


def test_what_the_disk_does_not_let_go_is_not_read_again(file):
    fill(file, "a", "b")
    file._connection.execute("PRAGMA query_only = 1")
    with pytest.raises(sqlite3.OperationalError):
        file.remove(file.read(1, 1)[0].id)
    file._connection.execute("PRAGMA query_only = 0")
    assert ["b"] == texts(file)
    assert Totals(1, 1, 1, 1001) == file.totals()


def test_space_is_given_back(file, path):
    fill(file, *["x" * 1_000_000] * 5)
    file.remove(file.read(10**9, 10**9)[-1].id)
    file.compact()
    assert sum(one.stat().st_size for one in path.parent.iterdir()) < SMALL_BYTES / 2
    fill(file, "after")
    assert ["after"] == texts(file)


def test_an_unreadable_entry_is_set_aside(file):
    fill(file, "a", "b")
    file.set_aside(file.read(1, 1)[0])
    assert ["b"] == texts(file)
    assert [(b"a",)] == file._connection.execute("SELECT data FROM unreadable").fetchall()


def test_a_file_of_another_version_is_left_as_it_is(path):
    SpoolFile.open(path).close()
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 7")
    other.close()
    with pytest.raises(ForeignFileError, match="format 7"):
        SpoolFile.open(path)


def test_what_is_no_spool_is_put_away(path):
    path.write_bytes(b"something else" * 1000)
    file = SpoolFile.open(path)
    fill(file, "a")
    assert ["a"] == texts(file)
    [damaged] = path.parent.glob("1.damaged-*")
    assert b"something else" * 1000 == damaged.read_bytes()
    assert SpoolFile.open(path) is None
    file.close()
