"""The reference of the command line says what the command line does."""

from __future__ import annotations

import re

from cli_reference import PAGE, reference


def test_the_page_is_current():
    assert reference() == PAGE.read_text(encoding="utf-8"), "run: python tests/cli_reference.py"


def test_arguments_are_named_in_capitals():
    usages = [line for line in PAGE.read_text().splitlines() if line.startswith("$ ")]
    assert [line for line in usages if re.search(r"[\[{][a-z]", line)] == []
