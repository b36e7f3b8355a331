"""Writes docs/cli.md from the command line itself: `python tests/cli_reference.py`. A test checks it is current."""

from __future__ import annotations

from pathlib import Path

import typer
from typer.cli import get_docs_for_click

from eventrouter import cli
from eventrouter.settings import PREFIX, Settings

PAGE = Path(__file__).parent.parent / "docs" / "cli.md"

HEAD = """# Command line

Written by `python tests/cli_reference.py` from the commands' own help.

Exit codes: 0 all went well; 1 something failed, and the message says what and what to do; 2 the command line itself is
wrong; 78 the rules or settings are wrong.
"""


def settings() -> str:
    """The environment variables as a table."""
    lines = ["## Environment", "", "| variable | default | what |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, "") else f"`{field.default}`"
        lines.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    lines += ["", "An option of the command line wins over its variable. Sizes may have a unit: `512MB`, `1GiB`.", ""]
    return "\n".join(lines)


def reference() -> str:
    """The whole page."""
    command = typer.main.get_command(cli.build())
    with command.make_context("eventrouter", [], resilient_parsing=True) as context:
        commands = get_docs_for_click(obj=command, ctx=context, name="eventrouter")
    # The page has a title of its own.
    return HEAD + "\n" + settings() + "\n" + commands.replace("# `eventrouter`", "## `eventrouter`", 1).strip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
