"""A Redis client whose few small writes a server takes that is full: those by which turns get their jobs.

Redis refuses commands that may need memory once it has more than `maxmemory`. What drains it must go on nevertheless:
the steps of lanes are scripts that may (`allow-oom`), but arq writes by plain commands. Here those go through a script.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import WatchError

if TYPE_CHECKING:
    _Base = Redis
else:
    _Base = object

REFUSED = frozenset({"INCRBY", "PSETEX", "SET", "SETEX", "ZADD", "ZINCRBY"})
"""What arq and the queue write by that a full server refuses; their other writes only take away."""
LOST = {"EXISTS": 1}
"""What a command answers whose connection broke after `WATCH`; others answer None, as for a key that is not there."""
SCRIPT = "#!lua flags=allow-oom\nreturn redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))"
"""One command of one key. Not by its digest: a transaction can't load it when the server has forgotten it."""


def allowed(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same command in a form that a full server takes; commands that it doesn't refuse stay as they are."""
    if args[0] not in REFUSED:
        return args
    name, key, *rest = args
    return ("EVAL", SCRIPT, 1, key, name, *rest)


class Unrefused(_Base):
    """Mixed into a client: also in its pipelines, a full server refuses none of `REFUSED`.

    They answer as the server does: `SET` with b"OK" and not with True.
    """

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Sends one command."""
        return await super().execute_command(*allowed(args), **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """A pipeline that does the same."""
        return UnrefusedPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class UnrefusedPipeline(Pipeline):
    """The pipeline of such a client."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Sends one command, or keeps it until `execute`."""
        return super().execute_command(*allowed(args), **options)

    async def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        """Sends a command of a watched section. Where its connection breaks, `EXISTS` says that the key is there.

        arq takes that for somebody else's job, and leaves it to its next look or the sweep. An error would end its
        worker.
        """
        try:
            return await super().immediate_execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except WatchError:
            return LOST.get(args[0])
