"""The reference of the command line says what the command line does."""

from __future__ import annotations

from cli_reference import PAGE, reference


def test_the_page_is_current():
    assert reference() == PAGE.read_text(encoding="utf-8"), "run: python tests/cli_reference.py"
