"""The JSON Schema of routes.yaml: it takes what `check` takes, and knows every key and the plugins' options."""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from pydantic import BaseModel, Field, SecretStr
from ruamel.yaml import YAML

import rules_kit
from eventrouter import (
    config,
    config_destinations,
    config_routes,
    config_sources,
    config_tests,
)
from eventrouter.destination import Destination
from eventrouter.errors import ConfigError
from eventrouter.hookspecs import hookimpl
from eventrouter.plugins import Plugins
from eventrouter.rules_schema import SCHEMAS, rules_schema

ROOT = Path(__file__).parent.parent
FILES = [
    (page.name, text)
    for page in sorted((ROOT / "docs").glob("*.md"))
    for label, text in re.findall(
        r"(?:<!-- ([a-z ]+) -->\n)?```yaml\n(version: 1\n.*?)```", page.read_text(), re.DOTALL
    )
    if label != "broken"
]


class Tree(BaseModel):
    """A model that holds itself."""

    name: str = ""
    inner: "Tree | None" = None


class Acme(Destination):
    """Tells Acme.

    More about it.
    """

    name = "acme"

    class Options(Destination.Options):
        api_key: SecretStr = Field(description="Acme's key.")
        region: str = Field(default="eu", pattern="^(eu|us)$")
        strict: bool = False
        tries: int = Field(default=3, ge=1)
        tree: Tree = Tree()

    async def deliver(self, messages: Any) -> None:
        """Takes everything."""


class Extra:
    @hookimpl
    def register_destinations(self):
        return [Acme]


def installed():
    plugins = Plugins.load()
    plugins.destinations["acme"] = Acme
    return plugins


PLUGINS = installed()


@pytest.fixture(scope="module")
def schema():
    return rules_schema(PLUGINS)


@pytest.fixture(scope="module")
def faults(schema):
    """The places at which a file isn't valid."""
    validator = jsonschema_rs.Draft7Validator(schema)

    def find(text):
        value = YAML(typ="safe", pure=True).load(text)
        return ["/".join(map(str, error.instance_path)) for error in validator.iter_errors(value)]

    return find


def test_it_is_a_schema_that_editors_know(schema):
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    jsonschema_rs.meta.validate(schema)


def test_it_knows_every_key(schema):
    known = schema["properties"]
    assert set(known) == set(config.KEYS)
    assert set(known["sources"]["additionalProperties"]["properties"]) == set(config_sources.KEYS)
    assert set(known["destinations"]["additionalProperties"]["properties"]) == set(config_destinations.KEYS)
    assert set(known["routes"]["items"]["properties"]) == set(config_routes.KEYS)
    assert set(known["tests"]["items"]["properties"]) == set(config_tests.KEYS)


@pytest.mark.parametrize(("page", "text"), FILES, ids=[f"{page}-{number}" for number, (page, _) in enumerate(FILES)])
def test_it_takes_the_files_of_the_docs(faults, page, text):
    foreign = {name for name in re.findall(r"plugin: (\w+)", text) if name in ("ga4", "acme")}
    assert [place for place in faults(text) if not foreign] == []


def test_there_are_files_in_the_docs():
    assert len(FILES) > 4


def test_it_takes_the_default_file(faults):
    assert faults((ROOT / "routes.yaml").read_text()) == []


HEAD = "version: 1\nsources: { website: { write_key: a } }\n"
CRM = HEAD + "destinations: { crm: { plugin: acme, options: { api_key: k, %s } } }\n"


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("version: 2\nsources: { website: { write_key: a } }\n", ["version"]),
        ("version: 1\n", [""]),
        (HEAD + "route: []\n", [""]),
        (HEAD + "destinations: { crm: { plugin: acne } }\n", ["destinations/crm/plugin"]),
        (HEAD + "destinations: { crm: { plugin: acme, options: {} } }\n", ["destinations/crm/options"]),
        (HEAD + "routes: [{ when: x }]\n", ["routes/0"]),
        (HEAD + "routes: [{ to: crm, wen: x }]\n", ["routes/0"]),
        (HEAD + "enrichments: { geo: { databse: x } }\n", ["enrichments/geo"]),
        (CRM % "region: mars", ["destinations/crm/options/region"]),
        (CRM % "tries: 0", ["destinations/crm/options/tries"]),
        (CRM % "timeout: 200", ["destinations/crm/options/timeout"]),
        (CRM % "strict: perhaps", ["destinations/crm/options/strict"]),
        (CRM % "regoin: eu", ["destinations/crm/options"]),
        (CRM % "tree: { inner: { inner: { name: 5 } } }", ["destinations/crm/options/tree/inner"]),
    ],
)
def test_it_finds_what_is_wrong(faults, text, places):
    assert faults(text) == places


@pytest.mark.parametrize(
    "options",
    [
        "region: us",
        'strict: "${STRICT}"',
        'tries: "${TRIES:-3}"',
        "tree: { inner: { name: x } }",
        "timeout: 5",
        "timeout: 2s",
        'timeout: "${T}"',
    ],
)
def test_a_variable_may_stand_for_any_plain_value(faults, options):
    assert faults(CRM % options) == []


@pytest.mark.parametrize(
    "text",
    [
        *(f"{key}:\n" for key in ("collect", "warehouse", "state", "dedup", "enrichments", "vars", "routes", "tests")),
        "warehouse: { url: }\n",
        "destinations: { crm: { plugin: acme, options: { api_key: k }, batch: , retry: } }\n",
        "destinations: { crm: { plugin: acme, options: { api_key: k }, rate_limit: { count: 10, per_seconds: 1 } } }\n",
        'destinations: { crm: { plugin: "${PLUGIN:-acme}", options: { api_key: k } } }\n',
        "collect: { trusted_proxies: [], spool: }\n",
        "include: []\n",
    ],
)
def test_what_check_takes_is_not_underlined(faults, text):
    assert faults(HEAD + text) == []
    problems = []
    try:
        config.loads(HEAD + text, Plugins(Extra()), {})
    except config.ConfigError as error:
        problems = [problem.message for problem in error.problems if "no route leads" not in problem.message]
    assert problems == []


def test_options_have_their_plugins_descriptions(schema):
    branches = schema["properties"]["destinations"]["additionalProperties"]["allOf"]
    (options,) = [
        branch["then"]["properties"]["options"]
        for branch in branches
        if branch["if"]["properties"]["plugin"]["const"] == "acme"
    ]
    assert options["description"] == "Tells Acme."
    assert options["properties"]["api_key"]["description"] == "Acme's key."
    assert "$ref" not in str(options)


ENVIRON = {"X": "abcdefgh"}
VALIDATORS = {kind: jsonschema_rs.Draft7Validator(made(PLUGINS)) for kind, made in SCHEMAS.items()}
MAIN = """\
version: 1
sources:
  website: { write_key: a }
  hooks: { webhook: { verify: none, event: { type: page, userId: "{{ body }}" } } }
destinations: { crm: { plugin: acme, options: { api_key: abcd } } }
"""


def checked(kind, value, folder):
    """Raises `ConfigError` where `check` refuses the file."""
    text = json.dumps(value)
    if kind == "rules":
        config.loads(text, PLUGINS, ENVIRON)
    elif kind == "included":
        config.loads(MAIN, PLUGINS, ENVIRON, included=[("more.yaml", text)])
    else:
        (folder / "routes.yaml").write_text(MAIN)
        (folder / "routes_test.yaml").write_text(text)
        config.load(folder / "routes.yaml", PLUGINS, ENVIRON, check_tests=True)


@pytest.mark.parametrize(
    ("kind", "made", "count"),
    [("rules", rules_kit.rules, 1500), ("included", rules_kit.included, 500), ("tests", rules_kit.tests, 300)],
)
def test_whatever_check_takes_the_schema_takes(kind, made, count, tmp_path):
    taken = 0

    @settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(made)
    def every(value):
        nonlocal taken
        with suppress(ConfigError):
            checked(kind, value, tmp_path)
            taken += 1
            assert [error.message for error in VALIDATORS[kind].iter_errors(value)] == []

    every()
    assert taken > count / 20


@pytest.mark.parametrize(
    ("kind", "text", "valid"),
    [
        ("rules", "version: 1\ninclude: a.yaml\n", True),
        ("rules", "version: 1\nroutes: []\n", False),
        ("included", "routes: [{ to: crm }]\n", True),
        ("included", "collect: {}\n", False),
        ("included", "routes: [~]\n", False),
        ("tests", "tests: [{ given: { type: page }, expect: {} }]\n", True),
        ("tests", "routes: []\n", False),
        ("tests", "tests: [{ given: { type: page } }]\n", False),
    ],
)
def test_each_kind_of_file_has_a_schema_of_its_own(kind, text, valid):
    assert VALIDATORS[kind].is_valid(YAML(typ="safe", pure=True).load(text)) is valid
    jsonschema_rs.meta.validate(SCHEMAS[kind](PLUGINS))
