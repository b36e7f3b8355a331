"""The README of the plugin says what is so."""

import re
from pathlib import Path

from ruamel.yaml import YAML

from eventrouter_ga4 import Ga4

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_every_option_is_in_the_table():
    rows = re.findall(r"^\| (`[^|]+) \|", README.split("## Options")[1].split("## ")[0], re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert documented == {field.alias or name for name, field in Ga4.Options.model_fields.items()}


def test_the_options_of_the_example_are_valid():
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    destination = YAML(typ="safe").load(text)["destinations"]["analytics"]
    options = {**destination["options"], "measurement_id": "G-ABC123"}
    assert destination["plugin"] == Ga4.name
    assert Ga4.Options.model_validate(options).currency == "EUR"


def test_what_google_is_told_of_each_call_is_in_the_table():
    rows = README.split("## What Google is told")[1].split("- **")[0]
    calls = re.findall(r"^\| `(\w+)` \|", rows, re.MULTILINE)
    assert calls == ["page", "screen", "track", "identify", "group", "alias"]
