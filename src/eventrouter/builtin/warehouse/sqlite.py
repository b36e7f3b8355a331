"""The warehouse on SQLite: a file, readable by everybody while it is written."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from urllib.parse import unquote

from eventrouter.errors import StartError
from eventrouter.warehouse import Warehouse

from .base import SqlWarehouse
from .store import Store

_URL = re.compile(r"sqlite(?:\+\w+)?:///(?P<path>[^?]+)")


class SqliteWarehouse(SqlWarehouse):
    """`sqlite:////abs/path.sqlite3` or `sqlite:///relative.sqlite3`: makes the file, in a directory that is there."""

    name = "sqlite"
    schemes = ("sqlite",)

    def __init__(self, options: Warehouse.Options, *, destination: str = "") -> None:
        super().__init__(options, destination=destination)
        self.path = _path(options.url)

    def open(self) -> Store:
        directory = self.path.parent
        if not directory.is_dir():
            raise StartError(
                f"the warehouse's directory {directory} does not exist", hint="create it, or correct warehouse.url"
            )
        if self.path.is_dir():
            raise StartError(f"the warehouse {self.path} is a directory", hint="name a file in warehouse.url")
        if self.reads_only and not self.path.exists():
            raise StartError(
                f"there is no warehouse {self.path} yet",
                hint="start `eventrouter up`, whose worker makes it; or name the one that you mean by `warehouse:` in"
                " routes.yaml or --data-dir",
            )
        from .sqlite_store import SqliteStore  # here for the reason that `_connect` has

        try:
            return SqliteStore(self.path, self.closing, reads_only=self.reads_only)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_NOTADB:
                raise StartError(
                    f"the warehouse {self.path} is not a SQLite database",
                    hint="move the file away, or name another one in warehouse.url",
                ) from None
            raise

    def explain(self, error: Exception) -> tuple[str, str]:
        if isinstance(error, sqlite3.Error):
            code = getattr(error, "sqlite_errorcode", None)
            hint = _HINTS.get(0 if code is None else code & 0xFF, "")
            return f"the warehouse {self.path}: {error}", hint
        return super().explain(error)


def _path(url: str) -> Path:
    found = _URL.match(url)
    if found is None or found["path"] == ":memory:":
        raise StartError(
            "warehouse.url does not name a file",
            hint="write sqlite:////absolute/path.sqlite3 or sqlite:///relative.sqlite3",
        )
    return Path(unquote(found["path"]))


_HINTS = {
    sqlite3.SQLITE_BUSY: "another program holds a lock on the file; end its transaction",
    sqlite3.SQLITE_READONLY: "give this user the right to write the file and its directory",
    sqlite3.SQLITE_CANTOPEN: "check that this user may write to the file and its directory",
    sqlite3.SQLITE_FULL: "free space on the disk",
    sqlite3.SQLITE_IOERR: "check the disk, and that there is space on it",
    sqlite3.SQLITE_CORRUPT: "check the file with `PRAGMA integrity_check`, and restore it from a backup",
    sqlite3.SQLITE_NOTADB: "the file is damaged or not a database: move it away, or restore it from a backup",
}
