"""kept_rules.py: what was in use last, for a start while the rules file is broken."""

import json
import os

import pytest

from eventrouter import kept_rules
from eventrouter.kept_rules import KeptRules


@pytest.fixture
def config(tmp_path):
    return tmp_path / "routes.yaml"


@pytest.fixture
def kept(tmp_path, config):
    return KeptRules(tmp_path / "data", config)


def test_texts_are_kept_with_absolute_paths_and_read_by_another_process(kept, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept.keep([("routes.yaml", "version: 1 # ü"), ("more/a.yaml", "routes: []")])
    found = KeptRules(tmp_path / "data", config).texts()
    assert found == [(str(config), "version: 1 # ü"), (str(tmp_path / "more/a.yaml"), "routes: []")]


def test_nothing_is_kept_at_first(kept):
    assert kept.texts() == []
    kept.keep([])
    assert kept.texts() == []
    assert not kept.path.parent.exists()


def test_the_last_ones_count_and_what_is_kept_already_is_not_written_again(kept, config):
    kept.keep([(str(config), "one")])
    kept.keep([(str(config), "two")])
    before = kept.path.stat().st_ino
    kept.keep([(str(config), "two")])
    assert (kept.texts(), kept.path.stat().st_ino) == ([(str(config), "two")], before)


def test_it_is_for_its_owner_alone_and_leaves_nothing_else(kept, config):
    kept.keep([(str(config), "one")])
    assert [file.name for file in kept.path.parent.iterdir()] == ["rules.json"]
    assert (kept.path.stat().st_mode & 0o777, kept.path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_rules_of_another_file_are_not_used(kept, config, tmp_path):
    kept.keep([(str(config), "one")])
    assert KeptRules(tmp_path / "data", tmp_path / "other.yaml").texts() == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"format": 2, "files": []}',
        '{"format": 1, "files": [1]}',
        '{"format": 1, "files": []}',
        "\ud800",
    ],
)
def test_what_cannot_be_read_is_as_if_it_was_not_there(kept, config, content):
    kept.path.parent.mkdir()
    kept.path.write_bytes(content.encode("utf-8", "surrogatepass"))
    assert kept.texts() == []
    kept.keep([(str(config), "one")])
    assert kept.texts() == [(str(config), "one")]


def test_a_write_that_fails_leaves_what_was_there(kept, config, monkeypatch):
    kept.keep([(str(config), "one")])

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept_rules.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        kept.keep([(str(config), "two")])
    assert [file.name for file in kept.path.parent.iterdir()] == ["rules.json"]
    assert kept.texts() == [(str(config), "one")]


def test_it_is_on_the_disk_before_it_takes_the_place_of_the_old_one(kept, config, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(kept_rules.os, "fsync", lambda number: (synced.append(kept.path.exists()), fsync(number)))
    kept.keep([(str(config), "one")])
    assert synced == [False, True]
    assert json.loads(kept.path.read_text())["format"] == 1
