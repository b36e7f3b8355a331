"""Where a worker keeps the warehouse and the state: every worker has to know the same ones.

SQLite files are on one machine. With workers on another machine, each would fill files of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from pathlib import Path

from redis.asyncio import Redis

from .config import Config
from .data_directory import make_directory
from .errors import StartError
from .presence import GONE_SECONDS, Process, leave, processes, tell, this_process

SERVER = "server"
"""A database that is reached over a network; which one is left to the operator."""
NAMES = ("warehouse", "state")
LOOK_SECONDS = 0.5


def stores_of(config: Config, data_dir: Path) -> str:
    """The place of the warehouse and that of the state, with a space between; the directories of files are marked.

    Makes the data directory where it is needed, as a worker without `up` has to. Raises `StartError`.
    """
    places = []
    for url in (config.warehouse.url, config.state.url):
        if not url:
            make_directory(data_dir)
            places.append(_mark(data_dir.resolve()))
        elif url.startswith("sqlite"):
            places.append(_mark(Path(url.partition("///")[2]).parent))
        else:
            places.append(SERVER)
    return " ".join(places)


def _mark(directory: Path) -> str:
    """What is the same for all who use this very directory: a random text in a file."""
    path = directory / ".eventrouter-id"
    with contextlib.suppress(OSError):
        if not path.exists():
            made = path.with_suffix(f".{secrets.token_hex(4)}")
            made.write_text(secrets.token_hex(8), "ascii")
            with contextlib.suppress(FileExistsError):
                os.link(made, path)  # whole, and by one of several
            made.unlink()
        data = path.read_bytes()
        text = data.decode("ascii", "replace")
        # What a power failure left of it is the same for all, too, if it is not empty.
        return text if text.isalnum() else data[:16].hex() or str(directory)
    return str(directory)


async def agree(redis: Redis, config: Config, data_dir: Path) -> str:
    """Tells of this worker and its stores, and returns these, unless another worker that lives has others.

    Waits for those to go that were just killed. Raises `StartError`, `redis.RedisError`.
    """
    worker = this_process("worker", config.version, stores=stores_of(config, data_dir))
    ends = time.monotonic() + GONE_SECONDS + 2
    await tell(redis, worker)
    while (found := _other(worker, await processes(redis))) is not None:
        if time.monotonic() > ends:
            await leave(redis, worker)
            other, name = found
            raise StartError(
                f"another worker, {other.pid} on {other.host}, has another {name}: SQLite files are on one machine",
                hint="where workers run on several machines they share a PostgreSQL: set `warehouse: { url: … }` and"
                " `state: { url: … }` in the routes.yaml of each",
            )
        await asyncio.sleep(LOOK_SECONDS)
        await tell(redis, worker)
    return worker.stores


def _other(worker: Process, others: list[Process]) -> tuple[Process, str] | None:
    """A worker that doesn't agree, and about what."""
    mine = worker.stores.split()
    for other in others:
        theirs = other.stores.split()
        for name, one, another in zip(NAMES, mine, theirs, strict=False):  # other versions tell nothing
            if one != another:
                return other, name
    return None
