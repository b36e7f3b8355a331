"""What is asked of a Redis or Valkey server that is not the embedded one."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from .errors import StartError

OLDEST = (7, 0)


async def check_server(redis: Redis, *, is_cluster: bool = False, replicas: int = 0) -> list[str]:
    """Warnings about the server's settings, each with what to do; none means that it keeps the promises.

    `is_cluster` says that it is to be a node of a Cluster, `replicas` how many of its replicas have to have an event.
    Raises `StartError` for a server that cannot be used at all. Errors of the connection are the caller's.
    """
    info = await redis.info("server")
    version = _version(str(info.get("valkey_version") or info.get("redis_version") or ""))
    if version and version < OLDEST:
        raise StartError(
            f"the Redis server has version {'.'.join(map(str, version))}, which is too old",
            hint="use Redis 7 or later, or any Valkey",
        )
    mode = info.get("server_mode") or info.get("redis_mode")
    if mode in ("cluster", "standalone", "sentinel") and mode != ("cluster" if is_cluster else "standalone"):
        raise StartError(
            f"EVENTROUTER_REDIS_URL is that of a {'Cluster' if is_cluster else 'single server'}, and the server is in"
            f" {mode} mode",
            hint="write redis://HOST, redis+sentinel://HOST,HOST/SERVICE or redis+cluster://HOST,HOST",
        )
    warnings = []
    if (there := int((await redis.info("replication")).get("connected_slaves") or 0)) < replicas:
        warnings.append(
            f"the Redis server has {there} replicas, and EVENTROUTER_REPLICAS={replicas} of them have to have an event:"
            " until there are so many, events wait in the spools, or are refused"
        )
    aof = (await redis.info("persistence")).get("aof_enabled")
    if aof is not None and not int(aof):
        warnings.append(
            "the Redis server has no append-only file: it loses accepted events when it ends; set appendonly yes"
        )
    elif await _setting(redis, "appendfsync") not in ("always", None):
        warnings.append(
            "the Redis server writes its append-only file without waiting: accepted events of the last seconds"
            " may be lost with it; set appendfsync always"
        )
    policy = await _setting(redis, "maxmemory-policy") or (await redis.info("memory")).get("maxmemory_policy")
    if policy not in ("noeviction", None):
        warnings.append(
            f"the Redis server evicts keys when its memory is full ({policy}): it loses accepted events;"
            " set maxmemory-policy noeviction"
        )
    return warnings


async def _setting(redis: Redis, name: str) -> str | None:
    """A setting of the server; None where it doesn't tell (managed servers often forbid CONFIG)."""
    try:
        answer: dict[Any, Any] = await redis.config_get(name)
    except ResponseError:
        return None
    return next((_text(value) for key, value in answer.items() if _text(key) == name), None)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:3] if part.isdigit())
