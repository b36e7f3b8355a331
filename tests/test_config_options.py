"""config_options.py: a plugin's model, and what it refuses; tests of destinations and enrichments go further."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator

from eventrouter.config_options import OptionsReader
from eventrouter.config_reader import Reader
from eventrouter.masking import secrets_of
from eventrouter.options import OptionDuration, OptionPath, Options
from eventrouter.yaml_file import MapNode, parse
from routes_kit import PLUGINS


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: SecretStr = Field(description="The key of the service.")
    file: OptionPath | None = None
    limits: list[int] = Field(default_factory=list)
    pause: OptionDuration = Field(default=1.0, le=120, description="How long it rests, 120s at most.")

    @field_validator("limits")
    @classmethod
    def few(cls, value: list[int]) -> list[int]:
        if len(value) > 2:
            raise ValueError("Too many limits\ntwo are enough")
        return value


def read(text: str, model: type[BaseModel] = Model, *, check_files: bool = False, **environ: str) -> Any:
    """The options below `use:`, and the problems as (line, column, message, hint)."""
    root, _ = parse(text, environ)
    assert isinstance(root, MapNode)
    reader = Reader("/etc/er/routes.yaml", text, PLUGINS, check_files=check_files)
    options = OptionsReader(reader, model, plugin="the plugin `p`", user="the thing `t`", what="`use`")
    found = options.read(root.values.get("use"), root.keys.get("use"))
    return found, [(one.line, one.column, one.message, one.hint) for one in reader.problems()], reader


def test_the_options_are_an_instance_of_the_plugins_model() -> None:
    found, problems, _ = read("use: { key: '${KEY}', file: geo.mmdb, limits: [1, 2] }", KEY="s3cr3t")
    assert [] == problems
    assert ("s3cr3t", "/etc/er/geo.mmdb", [1, 2]) == (found.key.get_secret_value(), str(found.file), found.limits)


@pytest.mark.parametrize("text", ["other: 1", "use:", "use: {}"])
def test_no_options_are_empty_ones(text: str) -> None:
    found, problems, _ = read(text, type("Free", (BaseModel,), {}))
    assert (True, []) == (isinstance(found, BaseModel), problems)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("use: {}", (1, 6, "the thing `t` needs the option `key`", "The key of the service.")),
        ("use:", (1, 1, "the thing `t` needs the option `key`", "The key of the service.")),
        ("use: [a]", (1, 6, "`use` must be an object (`key: value`)", "")),
        ("use: { key: a, fiel: b }", (1, 16, "the plugin `p` has no option `fiel`", "did you mean `file`?")),
        ("use: { key: 5 }", (1, 13, "the option `key` is not valid: input should be a valid string", None)),
        ("use: { key: a, limits: [1, 2, 3] }", (1, 24, "the option `limits` is not valid: too many limits", None)),
    ],
)
def test_what_is_wrong_is_told_at_its_place(text: str, problem: tuple[Any, ...]) -> None:
    found, problems, _ = read(text)
    assert (None, 1) == (found, len(problems))
    assert problem[:3] == problems[0][:3]
    assert problem[3] in (None, problems[0][3])


def test_of_what_is_too_much_it_is_told_what_it_is() -> None:
    [problem] = read("use: { key: a, pause: 3m }")[1]
    assert "the option `pause` is not valid: input should be less than or equal to 120" == problem[2]
    assert "How long it rests, 120s at most." == problem[3]


def test_the_second_line_of_a_validators_message_is_the_hint() -> None:
    assert "two are enough" == read("use: { key: a, limits: [1, 2, 3] }")[1][0][3]


def test_the_place_is_that_of_the_item() -> None:
    _, problems, _ = read("use:\n  key: a\n  limits:\n  - 1\n  - many\n")
    assert (5, 5) == problems[0][:2]


def test_a_secret_is_never_shown() -> None:
    _, _, reader = read("use: { key: pass-word, fiel: b }")
    assert "use: { key: *********, fiel: b }" == reader.problems()[0].text


class Noting(Options):
    url: str = ""
    deep: list[dict[str, str]] = Field(default_factory=list)


def test_what_came_from_variables_is_noted_for_whoever_masks_texts() -> None:
    text = "use: { url: 'https://h.example${PATH_OF_IT}', deep: [{ a: '${ONE:-none}', b: 'x ${TWO}' }] }"
    found, _, _ = read(text, Noting, PATH_OF_IT="/t0/s3cr3t", TWO="from-two")
    secrets = set(secrets_of(found))
    assert {"/t0/s3cr3t", "from-two"} <= secrets
    assert not {"none", "x from-two", "https://h.example/t0/s3cr3t"} & secrets


def test_validators_know_where_the_file_is_and_whether_to_look_at_others() -> None:
    seen = []

    class Curious(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def look(cls, value: str, info: ValidationInfo) -> str:
            seen.append(info.context)
            return value

    read("use: { name: a }", Curious)
    read("use: { name: a }", Curious, check_files=True)
    folder = Path("/etc/er")
    assert [{"folder": folder, "check_files": False}, {"folder": folder, "check_files": True}] == seen


def test_a_model_that_fails_is_told() -> None:
    class Broken(BaseModel):
        def model_post_init(self, context: object) -> None:
            raise RuntimeError("boom")

    assert "the plugin `p` failed on its options with RuntimeError" == read("use: {}", Broken)[1][0][2]
