"""The files of a spool: one of its own, those of dead collectors first, and none that is damaged in the way."""

from __future__ import annotations

import pytest

from eventrouter.spool_entry import encode_spooled
from eventrouter.spool_file import SpoolFile
from eventrouter.spool_files import SpoolFiles
from spool_kit import event, number_of, rejected


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "data" / "spool"


@pytest.fixture
def opened():
    files = []
    yield files
    for one in files:
        one.close()


@pytest.fixture
def start(directory, opened):
    def begin(now=1000.0):
        opened.append(SpoolFiles(directory, lambda: now))
        return opened[-1]

    return begin


def append(files, *numbers):
    for number in numbers:
        files.append(1, encode_spooled([event(number)], []))


def drain(files):
    numbers = []
    while chunk := files.read():
        numbers += [number_of(one) for one in chunk.events]
        files.remove(chunk)
    return numbers


def numbers_of(directory):
    return sorted(path.name for path in directory.glob("*.sqlite3"))


def test_what_was_appended_is_drained_in_order_across_a_restart(start, opened):
    files = start()
    append(files, 1, 2)
    opened.pop().close()
    files = start()
    append(files, 3)
    assert [1, 2, 3] == drain(files)
    assert files.read() is None


def test_it_knows_what_waits(start):
    files = start(5.0)
    assert (0, 0, 0, 0) == files.waiting
    size = len(encode_spooled([event(1), event(2)], [rejected(1)]))
    files.append(3, encode_spooled([event(1), event(2)], [rejected(1)]))
    assert (1, 3, size, 5000) == files.waiting
    chunk = files.read()
    assert (1, 3, size) == (chunk.rows, chunk.count, chunk.size)
    assert [rejected(1)] == chunk.rejected
    files.remove(chunk)
    assert (0, 0, 0, 0) == files.waiting


def test_what_waited_is_known_after_a_restart(start, opened):
    append(start(7.0), 1, 2)
    waiting = opened[0].waiting
    opened.pop().close()
    assert waiting == start(9.0).waiting


def test_collectors_have_files_of_their_own(start, directory):
    one, two = start(), start()
    append(one, 1)
    append(two, 2)
    assert ["1.sqlite3", "2.sqlite3"] == numbers_of(directory)
    assert ([1], [2]) == (drain(one), drain(two))


def test_a_dead_collectors_events_are_drained_by_the_next_and_first(start, opened, directory):
    one, two, three = start(), start(), start()
    append(one, 1)
    append(two, 2)
    append(three, 3)
    two.close()
    three.close()
    del opened[1:]
    heir = start()
    append(heir, 4)
    assert (3, 3) == heir.waiting[:2]
    assert [3, 2, 4] == drain(heir)
    assert [1] == drain(one)
    # What was adopted is free again.
    late = start()
    append(late, 5)
    assert ["1.sqlite3", "2.sqlite3", "3.sqlite3"] == numbers_of(directory)
    assert [5] == drain(late)


def test_what_a_collector_leaves_that_is_gone_is_taken_over_at_the_second_look(start, opened, directory, capsys):
    one, two = start(), start()
    append(one, 1)
    append(two, 2)
    assert (False, False) == (one.adopt(), one.adopt())
    two.close()
    opened.pop()
    assert not one.adopt()
    assert one.adopt()
    assert (2, 1) == (
        one.waiting.rows,
        capsys.readouterr().out.count("the spool of a collector that is gone is drained"),
    )
    assert one.own_bytes < one.waiting.bytes
    assert [2, 1] == drain(one)
    assert (0, 0) == (one.own_bytes, one.waiting.bytes)
    assert (False, False) == (one.adopt(), one.adopt())


def test_a_collector_that_starts_again_keeps_its_file(start, opened):
    one, two = start(), start()
    append(two, 2)
    two.close()
    opened.pop()
    one.adopt()
    two = start()
    append(two, 3)
    assert (False, [2, 3]) == (one.adopt(), drain(two))


def test_a_file_with_nothing_to_take_is_left_alone_until_it_changes(start, opened, directory, monkeypatch):
    one, two, three = start(), start(), start()
    append(three, 3)
    three._own._connection.execute("PRAGMA user_version = 9")
    for gone in (three, two):
        gone.close()
        opened.pop()
    one.adopt()
    looked = []
    monkeypatch.setattr(SpoolFile, "open", lambda path: looked.append(path.name))
    one.adopt()
    assert [] == looked
    (directory / "2.sqlite3").write_bytes(b"x")
    one.adopt()
    assert ["2.sqlite3"] == looked


def test_a_chunk_is_bounded(start, monkeypatch):
    monkeypatch.setattr("eventrouter.spool_files.CHUNK_EVENTS", 3)
    files = start()
    append(files, *range(7))
    sizes = []
    while chunk := files.read():
        sizes.append(len(chunk.events))
        files.remove(chunk)
    assert [3, 3, 1] == sizes


def test_an_entry_that_the_disk_has_changed_is_set_aside_and_counted(start):
    files = start()
    append(files, 1)
    files.append(4, b"nonsense")
    append(files, 2)
    assert [1, 2] == drain(files)
    assert 4 == files.unreadable
    assert (0, 0, 0, 0) == files.waiting


def test_nothing_but_unreadable_entries_is_nothing(start):
    files = start()
    files.append(1, b"nonsense")
    assert files.read() is None


def test_a_file_that_is_damaged_is_put_away(start, directory):
    directory.mkdir(parents=True)
    (directory / "1.sqlite3").write_bytes(b"something else" * 1000)
    files = start()
    append(files, 1)
    assert [1] == drain(files)
    [damaged] = directory.glob("1.damaged-*")
    assert b"something else" * 1000 == damaged.read_bytes()


def test_a_file_that_gets_damaged_is_replaced(start, directory):
    files = start()
    append(files, *range(20))
    files.compact()
    path = directory / "1.sqlite3"
    data = bytearray(path.read_bytes())
    data[16 * 1024 :] = b"\xff" * (len(data) - 16 * 1024)
    path.write_bytes(data)
    files._own._connection.execute("PRAGMA shrink_memory")
    assert [] == drain(files)
    append(files, 1)
    assert [1] == drain(files)
    assert 1 == len(list(directory.glob("1.damaged-*")))


def test_a_file_of_another_version_is_left_alone(start, opened, directory):
    append(start(), 1)
    opened[0]._own._connection.execute("PRAGMA user_version = 9")
    opened.pop().close()
    files = start()
    append(files, 2)
    assert [2] == drain(files)
    assert ["1.sqlite3", "2.sqlite3"] == numbers_of(directory)


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        SpoolFiles(tmp_path / "file" / "spool")
