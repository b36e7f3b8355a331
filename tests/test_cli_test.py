import json
import subprocess

import pytest
import typer
from typer.testing import CliRunner

from cli_kit import COMMAND, Place, wait_until
from eventrouter.cli import test as cli_test

RULES = """\
version: 1
sources: { website: { write_key: a } }
destinations: { terminal: { plugin: stdout } }
routes: [{ to: terminal, when: type == "page", map: { page: "{{ name }}" } }]
"""
TESTS = """\
tests:
  - { name: a page is shown, given: { type: page, name: Home }, expect: { terminal: { page: Home } } }
  - { name: a track is not, given: { type: track, event: E }, expect: {} }
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs `test` in an empty directory with a routes.yaml, and a routes_test.yaml, of these texts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVENTROUTER_CONFIG", raising=False)
    app = typer.Typer()
    app.callback()(lambda: None)
    cli_test.register(app)

    def run(text, *args, beside=None):
        (tmp_path / "routes.yaml").write_text(text)
        if beside is not None:
            (tmp_path / "routes_test.yaml").write_text(beside)
        return CliRunner().invoke(app, ["test", *args])

    return run


def test_tests_that_pass_are_listed_and_end_with_0(run):
    result = run(RULES + TESTS)
    assert (result.exit_code, result.stdout) == (
        0,
        "routes.yaml\n  ✓ a page is shown\n  ✓ a track is not\n2 tests: 2 passed, 0 failed\n",
    )


def test_a_test_that_fails_shows_its_place_and_the_difference_and_ends_with_1(run):
    result = run(RULES + TESTS.replace("page: Home }", "page: Cart }"))
    assert (result.exit_code, result.stdout) == (
        1,
        """\
routes.yaml
  ✗ a page is shown  routes.yaml:6
      terminal: payload is not as expected
        - page: "Cart"
        + page: "Home"
  ✓ a track is not
2 tests: 1 passed, 1 failed
""",
    )


def test_tests_of_the_file_beside_the_rules_run_too(run):
    result = run(RULES, beside=TESTS)
    assert result.stdout == "routes_test.yaml\n  ✓ a page is shown\n  ✓ a track is not\n2 tests: 2 passed, 0 failed\n"


def test_only_those_with_a_word_in_their_name(run):
    assert run(RULES + TESTS, "-k", "TRACK").stdout == "routes.yaml\n  ✓ a track is not\n1 test: 1 passed, 0 failed\n"


def test_a_word_in_no_name_is_an_error(run):
    result = run(RULES + TESTS, "-k", "nobody")
    assert (result.exit_code, result.stderr) == (1, "there is no test with “nobody” in its name\n")


def test_no_tests_are_no_failure(run):
    result = run(RULES)
    assert (result.exit_code, result.stderr) == (0, "routes.yaml and routes_test.yaml have no tests\n")


def test_json_for_scripts(run):
    result = run(RULES + TESTS.replace("page: Home }", "page: Cart, more: 1 }"), "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["passed"], report["failed"]) == (1, 1, 1)
    assert report["tests"][0] == {
        "name": "a page is shown",
        "path": "routes.yaml",
        "line": 6,
        "passed": False,
        "mistakes": [
            {
                "destination": "terminal",
                "message": "payload is not as expected",
                "differences": [
                    {"path": "page", "expected": "Cart", "actual": "Home"},
                    {"path": "more", "expected": 1},
                ],
            }
        ],
    }


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["-k", "nobody"], 1)])
def test_json_without_tests_is_json(run, arguments, code):
    result = run(RULES + (TESTS if arguments else ""), "--json", *arguments)
    assert (result.exit_code, json.loads(result.stdout)) == (code, {"passed": 0, "failed": 0, "tests": []})


def test_a_file_that_cannot_be_used_ends_with_78(tmp_path):
    place = Place(tmp_path, RULES + "tests: [x]\n")
    done = place.run("test")
    assert (done.returncode, "a test must be an object" in done.stderr) == (78, True)


def test_watch_runs_again_when_a_file_changes_also_when_it_was_broken(tmp_path):
    place = Place(tmp_path, RULES + TESTS)
    told = tmp_path / "told"
    with told.open("w") as out:
        watching = subprocess.Popen(
            [*COMMAND, "test", "--watch"], cwd=tmp_path, env=place.environment, stdout=out, stderr=out
        )
        try:
            for text, expected in (
                (None, "2 tests: 2 passed"),
                (RULES + "tests: [x]\n", "a test must be an object"),
                (RULES + TESTS.replace("page: Home }", "page: Cart }"), "1 failed"),
            ):
                if text is not None:
                    (tmp_path / "routes.yaml").write_text(text)
                wait_until(lambda expected=expected: expected in told.read_text())
            watching.terminate()
            watching.wait(10)
        finally:
            watching.kill()
            watching.wait()
    assert "Traceback" not in told.read_text()
