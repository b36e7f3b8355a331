"""`eventrouter schema`: what the files of rules may hold, for editors."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from .common import print_json


class Kind(StrEnum):
    """The kinds of files."""

    RULES = "rules"
    INCLUDED = "included"
    TESTS = "tests"


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command()
    def schema(
        kind: Annotated[
            Kind,
            typer.Argument(
                metavar="KIND", help="Of which file: routes.yaml, one that it includes, or routes_test.yaml."
            ),
        ] = Kind.RULES,
    ) -> None:
        """Print the JSON Schema of the rules file, with the options of the installed plugins, for editors."""
        from ..plugins import Plugins
        from ..rules_schema import SCHEMAS

        print_json(SCHEMAS[kind](Plugins.load()))
