"""The data directory: one run at a time, told apart from what a killed run left behind."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time

import pytest

from eventrouter import data_directory
from eventrouter.data_directory import DataDirectory, LockFile
from eventrouter.errors import StartError


@pytest.fixture
def directory(tmp_path):
    directory = DataDirectory(tmp_path / "deep" / "data")
    yield directory
    directory.close()


def test_it_is_made_for_its_owner_only(directory):
    directory.open()
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700


def test_a_second_run_is_told_who_uses_it(directory):
    directory.open()
    with pytest.raises(StartError, match=rf"in use by `eventrouter up` \(process {os.getpid()}\)"):
        DataDirectory(directory.path).open()


def test_who_is_refused_leaves_the_name_of_who_uses_it(directory):
    directory.open()
    other = DataDirectory(directory.path)
    for _ in range(2):
        with pytest.raises(StartError, match=str(os.getpid())):
            other.open()
        assert not other.is_open
        other.close()
    assert directory.is_open


def test_a_new_one_is_discarded_with_its_locks(directory):
    directory.open()
    directory.discard()
    directory.close()
    assert not directory.path.exists()


def test_one_with_something_in_it_or_that_was_there_is_never_discarded(directory):
    directory.open()
    (directory.path / "warehouse.sqlite3").touch()
    directory.discard()
    directory.close()
    (directory.path / "warehouse.sqlite3").unlink()
    directory.open()
    directory.discard()
    assert directory.path.is_dir()


def test_it_is_free_again_after_close(directory):
    directory.open()
    directory.close()
    again = DataDirectory(directory.path)
    again.open()
    again.close()


def test_a_start_waits_for_children_of_a_killed_run(directory):
    directory.open()
    child = subprocess.Popen(["sleep", "0.3"], pass_fds=[directory.children.descriptor])
    directory.close()
    started = time.monotonic()
    directory.open()
    assert time.monotonic() - started > 0.2
    child.wait()


def test_children_that_do_not_end_are_named(directory, monkeypatch):
    monkeypatch.setattr(data_directory, "LEFTOVERS_SECONDS", 0.2)
    directory.open()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1, pass_fds=[directory.children.descriptor])
    directory.children.name_holders([child.pid])
    directory.close()
    with pytest.raises(StartError, match=rf"earlier run still use .*\(process {child.pid}\)"):
        directory.open()
    child.communicate(b"\n")
    directory.open()


def test_a_path_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"cannot make the data directory .*file/data") as caught:
        DataDirectory(tmp_path / "file" / "data").open()
    assert "--data-dir" in caught.value.hint


def test_a_path_that_is_too_long_is_a_clear_error(tmp_path):
    with pytest.raises(StartError, match="cannot make the data directory"):
        DataDirectory(tmp_path / ("x" * 300)).open()


def test_a_directory_of_someone_else_is_a_clear_error(directory, monkeypatch):
    monkeypatch.setattr(data_directory.os, "access", lambda path, mode: False)
    with pytest.raises(StartError, match="is not writable for this user"):
        directory.open()


def test_a_lock_is_held_by_whoever_inherited_it(tmp_path):
    lock, other = LockFile(tmp_path / "lock"), LockFile(tmp_path / "lock")
    assert lock.take()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1, pass_fds=[lock.descriptor])
    lock.release()
    assert not other.take()
    child.kill()
    child.communicate()
    assert other.take_within(2)
    other.release()


def test_waiting_for_a_lock_ends_when_it_is_released(tmp_path):
    lock, other = LockFile(tmp_path / "lock"), LockFile(tmp_path / "lock")
    lock.take()
    timer = threading.Timer(0.1, lock.release)
    timer.start()
    assert other.take_within(5)
    timer.join()
    other.release()


def test_nonsense_in_a_lock_file_names_nobody(tmp_path):
    lock = LockFile(tmp_path / "lock")
    assert lock.holders() == []
    lock.path.write_text("who?")
    assert lock.holders() == []


def test_a_disk_without_room_for_names_takes_locks(directory, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", fail)
    directory.open()
    with pytest.raises(StartError, match=r"in use by `eventrouter up`$"):
        DataDirectory(directory.path).open()
