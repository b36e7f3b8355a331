"""`eventrouter schema`: what routes.yaml may hold, for editors."""

from __future__ import annotations

import typer

from .common import print_json


def register(app: typer.Typer) -> None:
    """Adds the command."""

    @app.command()
    def schema() -> None:
        """Print the JSON Schema of the rules file, with the options of the installed plugins, for editors."""
        from ..plugins import Plugins
        from ..rules_schema import rules_schema

        print_json(rules_schema(Plugins.load()))
