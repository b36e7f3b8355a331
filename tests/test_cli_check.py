import json

import pytest
import typer
from typer.testing import CliRunner

from eventrouter.cli import check

GOOD = """\
version: 1
sources: { website: { write_key: a } }
destinations: { terminal: { plugin: stdout } }
routes: [{ to: terminal }]
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs `check` in an empty directory with a routes.yaml of this text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVENTROUTER_CONFIG", raising=False)
    app = typer.Typer()
    app.callback()(lambda: None)
    check.register(app)

    def run(text, *args):
        if text is not None:
            (tmp_path / "routes.yaml").write_text(text)
        return CliRunner().invoke(app, ["check", *args])

    return run


def test_a_good_file_is_ok(run):
    result = run(GOOD)
    assert (result.exit_code, result.stdout) == (0, "routes.yaml: ok (1 source, 1 destination, 1 route)\n")


def test_a_bad_file_is_told_with_exit_code_78(run):
    result = run(GOOD.replace("to: terminal }", "to: terminl, when: evnt }"))
    assert result.exit_code == 78
    assert "routes.yaml:4:16: there is no destination `terminl`" in result.stderr
    assert "routes.yaml:4:31: `when` uses the unknown name `evnt`" in result.stderr
    assert "= hint: did you mean `event`?" in result.stderr
    assert result.stderr.endswith("routes.yaml: 2 problems\n")


def test_a_backlog_that_is_small_in_each_shard_is_warned_of(run, monkeypatch):
    small = GOOD.replace("plugin: stdout", "plugin: stdout, backlog: 399")
    monkeypatch.setenv("EVENTROUTER_SHARDS", "4")
    result = run(small)
    assert (result.exit_code, "is 99 in each of 4 shards" in result.stderr) == (0, True)
    monkeypatch.setenv("EVENTROUTER_SHARDS", "3")
    assert "" == run(small).stderr
    monkeypatch.setenv("EVENTROUTER_SHARDS", "many")
    assert "" == run(small).stderr


def test_warnings_are_shown_and_do_no_harm(run):
    result = run(GOOD.replace("[{ to: terminal }]", "[]"))
    assert result.exit_code == 0
    assert "routes.yaml:3:17: warning: no route leads to the destination `terminal`" in result.stderr


def test_json_for_scripts(run):
    result = run(GOOD.replace("version: 1", "version: 3"), "--json")
    report = json.loads(result.stdout)
    assert result.exit_code == 78
    assert (report["ok"], report["path"], report["version"]) == (False, "routes.yaml", None)
    assert report["problems"] == [
        {
            "path": "routes.yaml",
            "line": 1,
            "column": 10,
            "message": "this version of the file's format is not known",
            "hint": "write `version: 1`",
            "text": "version: 3",
            "severity": "error",
        }
    ]
    assert json.loads(run(GOOD, "--json").stdout)["ok"] is True


def test_of_thousands_of_problems_some_are_told_and_all_are_counted(run):
    text = GOOD + "".join(f"key{number}: 1\n" for number in range(1200))
    lines = run(text).stderr.splitlines()
    assert sum("the file has no key" in line for line in lines) == 50
    assert lines[-2:] == ["… and 1,150 more", "routes.yaml: 1200 problems"]
    report = json.loads(run(text, "--json").stdout)
    assert (len(report["problems"]), report["left_out"]) == (1000, 200)


def test_another_file_can_be_named(run, tmp_path, monkeypatch):
    (tmp_path / "other.yaml").write_text(GOOD)
    assert run(None, "other.yaml").exit_code == 0
    monkeypatch.setenv("EVENTROUTER_CONFIG", "other.yaml")
    assert run(None).exit_code == 0


def test_what_is_wrong_with_the_tests_beside_the_file_is_told_in_the_same_run(run, tmp_path):
    (tmp_path / "routes_test.yaml").write_text(
        "tests:\n  - { given: { type: page }, expect: { terminl: {} } }\n  - { given: { type: page }, expct: {} }\n"
    )
    told = [
        "routes_test.yaml:2:40: there is no destination `terminl`",
        "routes_test.yaml:3:5: the test has no `expect`",
        "routes_test.yaml:3:30: a test has no key `expct`",
    ]
    for text, more in ((GOOD, []), (GOOD.replace("to: terminal }", "to: terminal, when: evnt }"), ["routes.yaml:4"])):
        result = run(text)
        assert result.exit_code == 78
        assert all(one in result.stderr for one in [*told, *more])
        assert result.stderr.endswith(f"routes.yaml: {3 + len(more)} problems\n")
    (tmp_path / "routes_test.yaml").write_text("tests: [\n")
    assert "routes_test.yaml:2:1: not valid YAML" in run(GOOD).stderr
    (tmp_path / "routes_test.yaml").write_text("tests: []\n")
    assert run(GOOD).exit_code == 0


def test_a_missing_file_is_a_bad_config(run):
    result = run(None)
    assert (result.exit_code, "there is no such file" in result.stderr) == (78, True)
