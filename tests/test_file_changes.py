import os

import pytest

from eventrouter.file_changes import FileChanges


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "folder" / "file"
    path.parent.mkdir()
    path.write_text("one")
    os.utime(path, ns=(1, 1))
    return path


def test_nothing_changed_at_first(file):
    assert FileChanges([file]).changed() is False


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.write_text("longer"),
        lambda file: os.utime(file, ns=(2, 2)),
        lambda file: file.unlink(),
        lambda file: file.with_name("other").write_text("new"),
    ],
)
def test_a_change_is_told_once(file, change):
    changes = FileChanges([str(file)])
    change(file)
    assert [changes.changed(), changes.changed()] == [True, False]


def test_a_file_that_is_replaced_by_one_alike_has_changed(file):
    changes = FileChanges([file])
    other = file.with_name("new")
    other.write_text("two")
    os.utime(other, ns=(1, 1))
    other.replace(file)
    assert changes.changed() is True


def test_a_file_that_is_not_there_yet_is_waited_for(tmp_path):
    changes = FileChanges([tmp_path / "later" / "file"])
    assert changes.changed() is False
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "file").write_text("here")
    assert changes.changed() is True


def test_other_files_may_be_looked_at_without_losing_a_change(file):
    changes = FileChanges([file])
    file.write_text("longer")
    changes.watch([file, file.with_name("other")])
    assert changes.changed() is True
    changes.watch([file.with_name("other")])
    file.write_text("longer still")
    assert changes.changed() is False
