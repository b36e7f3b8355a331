"""`eventrouter plugins`: what is installed, for a person and for a script."""

from __future__ import annotations

import json

from cli_kit import Place


def test_a_script_gets_json(tmp_path):
    rows = json.loads(Place(tmp_path).run("plugins", "--json").stdout)
    assert {"webhook", "stdout"} <= {row["name"] for row in rows if row["kind"] == "destination"}
    assert all(set(row) == {"name", "kind", "package", "version", "summary"} for row in rows)


def test_a_person_gets_a_table(tmp_path):
    result = Place(tmp_path).run("plugins")
    assert result.returncode == 0
    assert any(line.split()[:3] == ["destination", "webhook", "eventrouter"] for line in result.stdout.splitlines())
