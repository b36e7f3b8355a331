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


@pytest.mark.parametrize(
    "text",
    [
        "- { path: /home, handler: home }\n",
        "version: 2\nroutes: { home: { sources: [a] } }\n",
        "sources: [a]\n",
        "\x00",
        "",
        "x: [\n",
    ],
)
def test_a_file_of_another_tool_does_not_disturb_the_tests_of_a_project(run, tmp_path, text):
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "routes.yaml").write_text(text)
    (tmp_path / "web" / "routes_test.yaml").write_text("x: 1\n")
    (tmp_path / "test_web.py").write_text("def test_web(): pass\n")
    done = run()
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout + done.stderr
    assert run("-o", "eventrouter_files=routes.yaml").returncode == 2


def test_rules_look_like_rules_however_they_are_written(run, tmp_path):
    quoted = RULES.replace("version:", '"version" :').replace("sources:", "'sources':")
    (tmp_path / "routes.yaml").write_bytes(b"\xef\xbb\xbf" + quoted.replace("\n", "\r\n").encode())
    done = run()
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout + done.stderr


def test_a_broken_file_is_an_error_with_its_problems(run, tmp_path):
    (tmp_path / "routes.yaml").write_text(RULES.replace("to: terminal", "to: terminl"))
    done = run()
    assert done.returncode == 2
    assert "there is no destination `terminl`" in done.stdout
    assert "Traceback" not in done.stdout
