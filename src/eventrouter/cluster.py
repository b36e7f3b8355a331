"""A client of a Redis or Valkey Cluster: finds the node of a key, and sends again only what a node did not take.

redis-py's own client repeats commands of unknown outcome, closes all connections when one breaks, raises where it is
out of connections instead of waiting, and does not tell from which node a `WAIT` in a pipeline comes.
"""

from __future__ import annotations

import asyncio
import random
import time
from bisect import bisect
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.client import Pipeline, PubSub
from redis.crc import key_slot
from redis.exceptions import ClusterDownError, MovedError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

Address = tuple[str, int]
Command = tuple[tuple[Any, ...], dict[str, Any]]

ASK_SECONDS = 1.0
"""How long one node may take to tell who has which slots; then another is asked."""
FRESH_SECONDS = 0.2
"""So long after they told nobody is asked again."""
SENDINGS = 4
"""How often a command is sent at most that its node says to be another one's."""
KEYLESS = "er:meta"
"""The node of this key gets the commands that have none."""
NOBODY = ("", 0)


@lru_cache(maxsize=4096)
def slot_of(key: str) -> int:
    """The slot of a key: that of what is in braces, if something is."""
    return key_slot(key.encode())


def key_of(args: Sequence[Any], options: dict[str, Any]) -> str:
    """The key by which a command finds its node: the first of its option `keys`, else where the command has it."""
    name = str(args[0]).split()[0]
    if keys := options.get("keys"):
        return _text(keys[0])
    if name in ("EVALSHA", "EVAL"):
        return _text(args[3])
    if name == "XREAD":
        return _text(args[[_text(word).upper() for word in args].index("STREAMS") + 1])
    if len(args) < 2 or name in ("PING", "INFO", "CONFIG", "CLUSTER", "WAIT"):
        return KEYLESS
    return _text(args[1])


def _text(word: Any) -> str:
    return word.decode() if isinstance(word, bytes) else str(word)


class Cluster(Redis):
    """Used like the client of a single server; a transaction has to stay within one key's slot.

    Not for a slot that is moved key by key to another node: a step touches more keys than it names.
    """

    def __init__(self, seeds: Sequence[Address], make_pool: Callable[[Address], ConnectionPool]) -> None:
        """`seeds` are some of the nodes, by which the others are found; each node gets a pool of its own."""
        self._make_pool = make_pool
        self._seeds = seeds
        self._nodes: dict[Address, Redis] = {}
        self._starts: list[int] = []
        self._owners: list[Address] = []
        """Who has the slots from the start at the same place on."""
        self._moved: dict[int, Address] = {}
        """Slots of which a node has told since whose they are."""
        self._is_stale = True
        self._asked_at = -FRESH_SECONDS
        self._asking = asyncio.Lock()
        super().__init__(connection_pool=self._node(seeds[0]).connection_pool)

    def _node(self, address: Address) -> Redis:
        if address not in self._nodes:
            self._nodes[address] = Redis(connection_pool=self._make_pool(address))
        return self._nodes[address]

    async def masters(self) -> list[Redis]:
        """A client of each node that has slots. Raises `RedisError`."""
        self._is_stale = True
        await self._look()
        return [self._node(address) for address in dict.fromkeys(self._owners) if address != NOBODY]

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Sends one command to the node of its key."""
        (answer,) = await self.run([(args, options)])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """A pipeline whose commands go to the nodes of their keys, all at once."""
        return ClusterPipeline(self, transaction)

    def pubsub(self, **options: Any) -> PubSub:
        """A subscription, at one of the nodes: what is published reaches all of them."""
        known = [owner for owner in self._owners if owner != NOBODY] or list(self._seeds)
        return self._node(random.choice(known)).pubsub(**options)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Closes all connections."""
        nodes, self._nodes = list(self._nodes.values()), {}
        self._is_stale = True
        for node in nodes:
            await node.aclose(close_connection_pool=True)

    async def run(self, commands: Sequence[Command], *, transaction: bool = False) -> list[Any]:
        """Runs commands, those of one node in one go and in their order: what each answers, or its error.

        A node that can't be reached makes its error that of all its commands, and harms no others. A `WAIT` is for the
        writes of its option `keys` that come before it.
        """
        results: list[Any] = [None] * len(commands)
        keys = [key_of(*command) for command in commands]
        left = list(range(len(commands)))
        for _ in range(SENDINGS):
            groups: dict[Address, list[int]] = {}
            for number in left:
                try:
                    groups.setdefault(await self._owner(keys[number]), []).append(number)
                except (RedisError, OSError, TimeoutError) as error:
                    results[number] = error
            await asyncio.gather(*(self._send(*group, commands, results, transaction) for group in groups.items()))
            again = {keys[number] for number in left if isinstance(results[number], MovedError)}
            left = [
                number
                for number in left
                if isinstance(results[number], MovedError)
                or (commands[number][0][0] == "WAIT" and keys[number] in again)
            ]
            if not left:
                break
        return results

    async def _send(
        self, address: Address, numbers: list[int], commands: Sequence[Command], results: list[Any], transaction: bool
    ) -> None:
        """Runs the commands of these `numbers` on one node, and notes what they answer in `results`."""
        try:
            async with self._node(address).pipeline(transaction=transaction) as pipeline:
                for number in numbers:
                    args, options = commands[number]
                    pipeline.execute_command(*args, **options)
                answers: list[Any] = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError, TimeoutError) as error:
            self._is_stale = True
            answers = [error] * len(numbers)
        except BaseException:  # it was given up, perhaps for want of an answer
            self._is_stale = True
            raise
        for number, answer in zip(numbers, answers, strict=True):
            results[number] = answer
            if isinstance(answer, MovedError):
                self._moved[answer.slot_id] = (answer.host or address[0], answer.port)
            if isinstance(answer, (MovedError, ClusterDownError)):
                self._is_stale = True

    async def _owner(self, key: str) -> Address:
        """The node that has the key's slot, as far as is known. Raises `RedisError`."""
        if self._is_stale:
            await self._look()
        slot = slot_of(key)
        owner = self._moved.get(slot) or self._owners[bisect(self._starts, slot) - 1]
        if owner == NOBODY:
            self._is_stale = True
            nobody: type[Exception] = ClusterDownError
            raise nobody("CLUSTERDOWN no node has the slot")
        return owner

    async def _look(self) -> None:
        """Asks who has which slots. Raises `RedisError` when nobody has ever told."""
        async with self._asking:
            if not self._is_stale or time.monotonic() - self._asked_at < FRESH_SECONDS:
                return
            known = [node for node in dict.fromkeys([*self._nodes, *self._owners, *self._seeds]) if node != NOBODY]
            random.shuffle(known)
            failure: Exception = RedisConnectionError("no node of the Cluster answers")
            for address in known:
                try:
                    async with asyncio.timeout(ASK_SECONDS):
                        rows = await self._node(address).execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
                except (RedisError, OSError, TimeoutError) as error:
                    failure = error
                    continue
                self._take(rows, address)
                break
            self._asked_at = time.monotonic()
            if not self._starts:
                raise failure

    def _take(self, rows: Sequence[Any], asked: Address) -> None:
        """Takes what the node that was `asked` tells: rows of first slot, last slot, who has them, replicas."""
        starts, owners = [0], [NOBODY]
        for first, last, (host, port, *_), *_ in sorted(rows, key=lambda row: int(row[0])):
            if starts[-1] == first:
                starts.pop(), owners.pop()
            starts += [first, last + 1]
            owners += [(_text(host or asked[0]), int(port)), NOBODY]
        self._starts, self._owners = starts, owners
        self._moved.clear()
        self._is_stale = False


class ClusterPipeline(Pipeline):
    """Commands that go to the nodes of their keys, all at once. Answers have the order of the commands."""

    def __init__(self, cluster: Cluster, transaction: bool) -> None:
        super().__init__(cluster.connection_pool, cluster.response_callbacks, transaction, None)
        self._cluster = cluster

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """What the commands answer, among it errors, of nodes that can't be reached too, unless `raise_on_error`."""
        commands: list[Any] = self.command_stack
        self.command_stack = []
        if self.is_transaction and len({slot_of(key_of(*command)) for command in commands}) > 1:
            raise RedisError("a transaction has to stay within one slot of the Cluster")
        answers = await self._cluster.run(commands, transaction=self.is_transaction)
        if raise_on_error:
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        return answers
