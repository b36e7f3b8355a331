"""options.py: types for the options of plugins."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from eventrouter.options import OptionPath


class Options(BaseModel):
    file: OptionPath


def path(text: str, folder: Path | None = None) -> Path:
    return Options.model_validate({"file": text}, context={"folder": folder} if folder else None).file


def test_a_relative_path_begins_at_the_folder_of_the_rules(tmp_path: Path) -> None:
    assert tmp_path / "geo" / "city.mmdb" == path("geo/city.mmdb", tmp_path)


def test_without_a_folder_it_begins_where_the_process_is() -> None:
    assert Path.cwd() / "city.mmdb" == path("city.mmdb")


def test_an_absolute_path_and_that_of_the_home_stay(tmp_path: Path) -> None:
    assert Path("/var/city.mmdb") == path("/var/city.mmdb", tmp_path)
    assert Path.home() / "city.mmdb" == path("~/city.mmdb", tmp_path)
