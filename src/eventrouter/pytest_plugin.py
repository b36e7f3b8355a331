"""A pytest plugin: collects the tests of rules files, so that they run with all other tests of a project.

It takes files called `routes.yaml` that look like rules, with the `routes_test.yaml` beside each; the ini option
`eventrouter_files` names others (as shell patterns). Nothing is sent, and no server is needed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .errors import ConfigError

if TYPE_CHECKING:
    from .config_model import Config, TestConfig


_DEFAULT = "routes.yaml"
_KEYS = tuple(re.compile(rf"""^(["']?){keys}\1[ \t]*:""", re.MULTILINE) for keys in ("version", "(sources|include)"))
"""What rules have at their top level; a `routes.yaml` of another tool is left alone."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the ini option."""
    text = "rules files of eventrouter whose tests are run (shell patterns)"
    parser.addini("eventrouter_files", text, type="args", default=[])


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> RulesFile | None:
    """Takes rules files, and files of tests when they are named themselves (`pytest routes_test.yaml`)."""
    rules = file_path.with_name(f"{file_path.stem.removesuffix('_test')}{file_path.suffix}")
    patterns = parent.config.getini("eventrouter_files")
    if not any(rules.match(pattern) for pattern in patterns or [_DEFAULT]) or not rules.is_file():
        return None
    if not patterns and not _look_like_rules(rules):
        return None
    made: RulesFile = RulesFile.from_parent(parent, path=file_path)
    made.rules = rules
    return made


def _look_like_rules(path: Path) -> bool:
    try:
        text = path.read_text("utf-8-sig", "replace")
    except OSError:
        return False
    return all(key.search(text) for key in _KEYS)


class RulesFile(pytest.File):
    """A rules file, or the file of tests beside it."""

    rules: Path

    def collect(self) -> Iterator[RuleTest]:
        """The tests that stand in this very file."""
        from .config import load
        from .config_tests import load_companion
        from .plugins import Plugins

        plugins = Plugins.load()
        try:
            config = load(self.rules, plugins, os.environ)
            tests = config.tests
            if self.path != self.rules:
                config = load_companion(config, os.environ)
                tests = config.tests[len(tests) :]
        except ConfigError as error:
            raise self.CollectError(str(error)) from None
        for test in tests:
            made: RuleTest = RuleTest.from_parent(self, name=test.name)
            made.rules, made.test, made.filters = config, test, plugins.template_filters
            yield made


class RuleTest(pytest.Item):
    """One test of the rules."""

    rules: Config
    test: TestConfig
    filters: dict[str, Any]

    def runtest(self) -> None:
        """Fails with what isn't as expected."""
        from .rule_tests import run_tests

        for result in run_tests(self.rules, [self.test], self.filters):
            if result.mistakes:
                pytest.fail("\n".join(str(mistake) for mistake in result.mistakes), pytrace=False)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where the test stands."""
        return self.path, max(self.test.line - 1, 0), self.name
