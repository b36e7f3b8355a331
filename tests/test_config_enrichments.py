"""`enrichments:` in routes.yaml."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import Field, SecretStr

from eventrouter.config import Config, loads
from eventrouter.enrichment import Enrichment
from eventrouter.errors import ConfigError
from eventrouter.hookspecs import hookimpl
from eventrouter.plugins import Plugins

HEAD = "version: 1\nsources: { website: { write_key: a } }\n"


class Step(Enrichment):
    def patch(self, event: Any) -> None:
        return None


class Identity(Step):
    name = "identity"
    required = True


class Weekend(Step):
    name = "weekend"

    class Options(Enrichment.Options):
        days: int = 2


class Geo(Step):
    name = "geo"
    enabled = False

    class Options(Enrichment.Options):
        database: str = Field(description="The path of the file.")
        token: SecretStr | None = None


class Needy(Geo):
    name = "needy"
    enabled = True


class Kit:
    def __init__(self, *steps: type[Enrichment]) -> None:
        self.steps = steps

    @hookimpl
    def register_enrichments(self) -> list[type[Enrichment]]:
        return list(self.steps)


PLUGINS = Plugins(Kit(Identity, Geo, Weekend))


def config(text: str = "", plugins: Plugins = PLUGINS, **environ: str) -> Config:
    return loads(HEAD + text, plugins, environ)


def on(text: str = "", plugins: Plugins = PLUGINS, **environ: str) -> dict[str, dict[str, Any]]:
    return {name: one.options.model_dump() for name, one in config(text, plugins, **environ).enrichments.items()}


def problems(text: str, plugins: Plugins = PLUGINS, **environ: str) -> list[tuple[int, int, str, str]]:
    with pytest.raises(ConfigError) as caught:
        config(text, plugins, **environ)
    return [(one.line, one.column, one.message, one.hint) for one in caught.value.problems]


@pytest.mark.parametrize("text", ["", "enrichments:", "enrichments: {}", "enrichments: { identity: true }"])
def test_what_is_not_mentioned_runs_when_it_says_so(text: str) -> None:
    assert {"weekend": {"days": 2}} == on(text)


@pytest.mark.parametrize("value", ["true", "{}", "", "'${ON}'"])
def test_one_can_be_switched_on(value: str) -> None:
    assert {"weekend": {"days": 2}} == on(f"enrichments: {{ weekend: {value} }}", ON="true")


@pytest.mark.parametrize("value", ["false", "'${ON}'"])
def test_one_can_be_switched_off(value: str) -> None:
    assert {} == on(f"enrichments: {{ weekend: {value} }}", ON="false")


def test_options_switch_it_on_and_the_order_is_that_of_the_plugins() -> None:
    text = "enrichments: { weekend: { days: '${DAYS}' }, geo: { database: a.mmdb } }"
    assert [("geo", {"database": "a.mmdb", "token": None}), ("weekend", {"days": 3})] == list(
        on(text, DAYS="3").items()
    )
    assert [Geo, Weekend] == [one.cls for one in config(text, DAYS="3").enrichments.values()]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "enrichments: { weekedn: true }",
            (3, 16, "no installed enrichment is called `weekedn`", "did you mean `weekend`?"),
        ),
        (
            "enrichments: { xyz: true }",
            (3, 16, "no installed enrichment is called `xyz`", "installed are geo, identity, weekend"),
        ),
        ("enrichments: [geo]", (3, 14, "`enrichments` must be an object (`key: value`)", "")),
        (
            "enrichments: { weekend: no }",
            (
                3,
                25,
                "`weekend` must be true or false, or an object with its options",
                "write `false`: in YAML 1.2 `no` is a text",
            ),
        ),
        ("enrichments: { weekend: [1] }", (3, 25, "`weekend` must be an object (`key: value`)", "")),
        (
            "enrichments: { weekend: { dayz: 1 } }",
            (3, 27, "the enrichment `weekend` has no option `dayz`", "did you mean `days`?"),
        ),
        (
            "enrichments: { geo: true }",
            (3, 16, "the enrichment `geo` needs the option `database`", "The path of the file."),
        ),
        (
            "enrichments: { identity: { url: x } }",
            (3, 26, "`identity` has no options here", "its database is configured by `state: { url: … }`"),
        ),
    ],
)
def test_what_is_wrong_is_told_at_its_place(text: str, problem: tuple[Any, ...]) -> None:
    assert [problem] == problems(text)


def test_identity_can_not_be_switched_off_and_why_is_told() -> None:
    ((line, column, message, hint),) = problems("enrichments: { identity: false }")
    assert (3, 26, "the enrichment `identity` can't be switched off") == (line, column, message)
    assert "`person_id`" in hint


def test_one_that_runs_by_default_and_needs_an_option_says_so() -> None:
    plugins = Plugins(Kit(Needy))
    message = "the enrichment `needy` needs the option `database`"
    assert [(0, 0, message)] == [one[:3] for one in problems("", plugins)]
    assert [(3, 14, message)] == [one[:3] for one in problems("enrichments: {}", plugins)]
    assert {} == on("enrichments: { needy: false }", plugins)


@pytest.mark.parametrize("name", ["geo", "gone"])
def test_secrets_are_never_shown(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(f"enrichments: {{ {name}: {{ token: s3cr3t-token }} }}")
    assert "s3cr3t" not in str(caught.value)


def test_a_missing_variable_is_told_once() -> None:
    assert ["the variable GONE is not set"] == [one[2] for one in problems("enrichments: { weekend: '${GONE}' }")]
