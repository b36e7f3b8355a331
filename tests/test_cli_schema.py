import json

from typer.testing import CliRunner

from eventrouter.cli import build
from eventrouter.plugins import Plugins
from eventrouter.rules_schema import rules_schema


def test_the_schema_is_printed_as_json():
    result = CliRunner().invoke(build(), ["schema"])
    assert (result.exit_code, json.loads(result.stdout)) == (0, rules_schema(Plugins.load()))
