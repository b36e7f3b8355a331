"""docs/guarantees.md: each promise has tests, and each test that it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "guarantees.md").read_text("utf-8")
PROMISES = dict(re.findall(r"^## (P\d) .+?\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
NAMED = re.compile(r"^\| `(\S+\.py)::(test_\w+)` \| \S", re.MULTILINE)


def named(text: str) -> list[tuple[str, str]]:
    return NAMED.findall(text)


def functions_of(file: Path) -> set[str]:
    """The functions of a file, those in classes too."""
    found = ast.walk(ast.parse(file.read_text("utf-8")))
    return {node.name for node in found if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_there_are_eight_promises() -> None:
    assert [f"P{number}" for number in range(1, 9)] == list(PROMISES)


@pytest.mark.parametrize("promise", sorted(PROMISES))
def test_each_promise_has_tests_that_attack_it(promise: str) -> None:
    rows = [line for line in PROMISES[promise].splitlines() if line.startswith("| `")]
    assert len(rows) == len(named(PROMISES[promise])) >= 3


@pytest.mark.parametrize(("file", "name"), sorted(set(named(PAGE))))
def test_each_test_that_is_named_exists(file: str, name: str) -> None:
    assert name in functions_of(TESTS / file)
