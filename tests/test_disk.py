"""A disk that is full is known as such."""

from __future__ import annotations

from eventrouter import disk
from eventrouter.disk import is_full


def test_a_disk_is_full_when_it_has_no_room_for_some_more_writes(tmp_path, monkeypatch):
    assert not is_full(tmp_path)
    monkeypatch.setattr(disk, "FULL_BYTES", 2**80)
    assert is_full(tmp_path)
    assert not is_full(tmp_path / "gone")
