import json

import pytest
from typer.testing import CliRunner

from eventrouter.cli import build
from eventrouter.plugins import Plugins
from eventrouter.rules_schema import SCHEMAS


@pytest.mark.parametrize("arguments", [[], ["rules"], ["included"], ["tests"]])
def test_the_schema_of_each_kind_of_file_is_printed_as_json(arguments):
    result = CliRunner().invoke(build(), ["schema", *arguments])
    assert (result.exit_code, json.loads(result.stdout)) == (0, SCHEMAS[(arguments or ["rules"])[0]](Plugins.load()))


def test_another_kind_is_a_wrong_command_line():
    assert CliRunner().invoke(build(), ["schema", "routes"]).exit_code == 2
