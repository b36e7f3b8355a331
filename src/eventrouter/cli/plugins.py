"""`eventrouter plugins`: what is installed."""

from __future__ import annotations

import typer

from .common import JsonOption, print_json, print_table


def register(app: typer.Typer) -> None:
    """Adds `plugins`."""

    @app.command()
    def plugins(as_json: JsonOption = False) -> None:
        """List the destinations, warehouses, enrichments and filters that are installed."""
        from ..plugins import Plugins

        rows = Plugins.load().list()
        if as_json:
            print_json(rows)
            return
        columns = ["kind", "name", "package", "version", "summary"]
        print_table(columns, [[row.get(column) for column in columns] for row in rows])
