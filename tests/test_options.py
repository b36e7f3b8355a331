"""options.py: types for the options of plugins."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, Field, ValidationError

from eventrouter.options import OptionDuration, OptionPath


class Options(BaseModel):
    file: OptionPath


class Patience(BaseModel):
    pause: OptionDuration = Field(default=10.0, gt=0, le=120, description="How long.")


def path(text: str, folder: Path | None = None) -> Path:
    return Options.model_validate({"file": text}, context={"folder": folder} if folder else None).file


def test_a_relative_path_begins_at_the_folder_of_the_rules(tmp_path: Path) -> None:
    assert tmp_path / "geo" / "city.mmdb" == path("geo/city.mmdb", tmp_path)


def test_without_a_folder_it_begins_where_the_process_is() -> None:
    assert Path.cwd() / "city.mmdb" == path("city.mmdb")


def test_an_absolute_path_and_that_of_the_home_stay(tmp_path: Path) -> None:
    assert Path("/var/city.mmdb") == path("/var/city.mmdb", tmp_path)
    assert Path.home() / "city.mmdb" == path("~/city.mmdb", tmp_path)


@pytest.mark.parametrize(("given", "seconds"), [("2s", 2), ("250ms", 0.25), ("2m", 120), (3, 3), (0.5, 0.5), ("4", 4)])
def test_a_duration_is_written_as_elsewhere_in_the_rules_or_as_a_number_of_seconds(
    given: object, seconds: float
) -> None:
    assert seconds == Patience.model_validate({"pause": given}).pause


@pytest.mark.parametrize("given", ["3m", 121, 0, "0s", "soon", True, None, [2], float("nan")])
def test_a_duration_keeps_its_bounds_and_what_is_none_is_refused(given: object) -> None:
    with pytest.raises(ValidationError):
        Patience.model_validate({"pause": given})


def test_what_is_no_duration_is_refused_with_examples() -> None:
    with pytest.raises(ValidationError, match="such as 250ms, 1s, 5m, 72h"):
        Patience.model_validate({"pause": "soon"})


def test_the_schema_of_a_duration_takes_texts_too() -> None:
    shown = Patience.model_json_schema()["properties"]["pause"]
    assert ["string", "number"] == shown["type"]
    assert (10, "How long.", 120) == (shown["default"], shown["description"], shown["maximum"])
