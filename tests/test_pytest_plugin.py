"""The pytest plugin: rules are tested with all other tests of a project."""

import subprocess
import sys

import pytest

RULES = """\
version: 1
sources: { website: { write_key: a } }
destinations: { terminal: { plugin: stdout } }
routes: [{ to: terminal, when: type == "page", map: { page: "{{ name }}" } }]
tests:
  - { name: a page is shown, given: { type: page, name: Home }, expect: { terminal: { page: Home } } }
"""
TESTS = (
    "tests: [{ name: a page of the shop, given: { type: page, name: Shop }, expect: { terminal: { page: Sh0p } } }]\n"
)


@pytest.fixture
def run(tmp_path):
    """Runs pytest in a directory of its own, with the plugin alone."""

    def run(*arguments):
        options = ["-q", "-W", "error", "-p", "no:cacheprovider", "-p", "eventrouter.pytest_plugin"]
        environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PATH": "/usr/bin:/bin"}
        command = [sys.executable, "-m", "pytest", *options, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    return run


def test_the_tests_of_both_files_run_and_a_failure_shows_the_difference(run, tmp_path):
    (tmp_path / "routes.yaml").write_text(RULES)
    (tmp_path / "routes_test.yaml").write_text(TESTS)
    done = run()
    assert (done.returncode, "1 failed, 1 passed" in done.stdout) == (1, True), done.stdout + done.stderr
    assert 'terminal: payload is not as expected\n  - page: "Sh0p"\n  + page: "Shop"\n' in done.stdout
    assert "FAILED routes_test.yaml::a page of the shop" in done.stdout
    assert "1 passed" in run("routes.yaml").stdout


def test_other_files_are_left_alone_unless_they_are_named(run, tmp_path):
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "shop.yaml").write_text(RULES)
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    (tmp_path / "login_test.yaml").write_text("steps: []\n")
    assert run().returncode == 5  # no tests
    done = run("-o", "eventrouter_files=rules/*.yaml")
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout + done.stderr


def test_a_broken_file_is_an_error_with_its_problems(run, tmp_path):
    (tmp_path / "routes.yaml").write_text(RULES.replace("to: terminal", "to: terminl"))
    done = run()
    assert done.returncode == 2
    assert "there is no destination `terminl`" in done.stdout
    assert "Traceback" not in done.stdout
