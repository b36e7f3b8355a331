"""How steps are run: scripts by their digest, on the server that has their keys, and on replicas where it counts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from .errors import UnavailableError

WAIT_SECONDS = 1.0
"""How long replicas may take to have what a step wrote."""


class Call(NamedTuple):
    """A step to run: the keys are those of one shard, or of one destination."""

    keys: Sequence[str]
    args: Sequence[Any]


class Steps:
    """Runs steps. Raises what redis-py raises; no step is repeated by itself."""

    def __init__(self, redis: Redis, sources: Mapping[str, str], replicas: int = 0) -> None:
        """`sources` are the texts of the scripts; `replicas` is how many have to have what is to be kept."""
        self._redis = redis
        self._sources = sources
        self._digests = {step: hashlib.sha1(text.encode()).hexdigest() for step, text in sources.items()}
        self.replicas = replicas

    async def run(self, step: str, call: Call) -> Any:
        """Runs one step."""
        keys, args = call
        try:
            return await self._redis.evalsha(self._digests[step], len(keys), *keys, *args)  # type: ignore[misc]
        except NoScriptError:  # another server by now, or one that was emptied
            return await self._redis.eval(self._sources[step], len(keys), *keys, *args)  # type: ignore[misc]

    async def run_kept(self, step: str, calls: Sequence[Call]) -> list[tuple[Any, bool]]:
        """Runs a step for each of `calls` in one round trip: what it returned or its error, and whether it is kept.

        It is kept when as many replicas as are asked for have it; it was done in any case.
        """
        results: list[tuple[Any, bool]] = [(NoScriptError(), False)] * len(calls)
        for command, script in (("EVALSHA", self._digests[step]), ("EVAL", self._sources[step])):
            left = [number for number, (result, _) in enumerate(results) if isinstance(result, NoScriptError)]
            if not left:
                break
            async with self._redis.pipeline(transaction=False) as pipeline:
                for number in left:
                    keys, args = calls[number]
                    pipeline.execute_command(command, script, len(keys), *keys, *args)
                if self.replicas:
                    # On the connection of the steps, and after all of them: the first one waits for all.
                    for number in left:
                        self._wait(pipeline, calls[number].keys[0])
                answers = await pipeline.execute(raise_on_error=False)
            known = answers[len(left) :] if self.replicas else [0] * len(left)
            for number, answer, replicas in zip(left, answers, known, strict=False):
                results[number] = answer, isinstance(replicas, int) and replicas >= self.replicas
        return results

    async def reach(self, keys: Sequence[str]) -> None:
        """Returns when the server of each key answers, and has the replicas that are asked for.

        Raises `RedisError`, `UnavailableError` for want of replicas.
        """
        async with self._redis.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.execute_command("PING", keys=[key])
            for key in keys if self.replicas else ():
                self._wait(pipeline, key)
            answers = await pipeline.execute()
        if self.replicas and min(answers[len(keys) :]) < self.replicas:
            raise too_few(self.replicas)

    def _wait(self, pipeline: Any, key: str) -> None:
        pipeline.execute_command("WAIT", self.replicas, int(WAIT_SECONDS * 1000), keys=[key])


def too_few(replicas: int) -> UnavailableError:
    """The error where fewer replicas than wanted have what was written."""
    return UnavailableError(
        f"fewer than {replicas} replicas of the event log answer",
        hint="see EVENTROUTER_REPLICAS, and INFO replication of the server",
        retry_after=2.0,
    )
