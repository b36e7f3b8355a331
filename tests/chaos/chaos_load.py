"""The load of a chaos run: clients that send known events, and send them again until they hear 200."""

from __future__ import annotations

import asyncio
import random
import time
from base64 import b64encode
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp

WRITE_KEY = "chaos"
PATIENCE_SECONDS = 4.0
"""How long a client waits for an answer before it sends again."""
NAMES = ("Order Completed", "Product Viewed", "Unrouted", "Broken")


@dataclass
class Sent:
    """An event that some client sends. Its key's events are sent one after the other, each until it is acknowledged."""

    key: str
    number: int
    type: str
    name: str = ""
    user: str = ""
    poison: bool = False
    acknowledged_at: float = 0.0
    """By time.monotonic(); 0: not yet."""

    @property
    def message_id(self) -> str:
        return f"{self.key}/{self.number}"

    def body(self) -> dict[str, Any]:
        """The event as it is sent."""
        event: dict[str, Any] = {"messageId": self.message_id, "type": self.type}
        if self.key.startswith("device"):
            event["anonymousId"] = self.key
        if self.user:
            event["userId"] = self.user
        if self.type == "track":
            event |= {"event": self.name, "properties": {"number": self.number, "zero": 0}}
            if self.poison:
                event["properties"]["poison"] = True
        elif self.type == "identify":
            event["traits"] = {"plan": "free"}
        else:
            event["name"] = "Home"
        return event


@dataclass
class Load:
    """Clients at `url`. `run` until `stop`; then every event in `events` is acknowledged."""

    url: str
    rng: random.Random
    clients: int = 6
    keys: int = 8
    """Devices of each client; a user of its own, without a device, comes on top."""
    most: int = 40
    """Events of a batch at most."""
    pause: float = 0.1
    """Seconds between the requests of a client, on average."""
    poison: float = 0.005
    """The part of the tracks that receivers refuse."""
    name: str = ""
    """Keeps the order keys of several loads apart."""
    events: dict[str, Sent] = field(default_factory=dict)
    faulty: set[str] = field(default_factory=set)
    """The ids of events that were refused."""
    answers: Counter[str] = field(default_factory=Counter)
    """What requests met."""
    last_answer: float = 0.0
    """When the last 200 came, by time.monotonic()."""

    def __post_init__(self) -> None:
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Lets the clients end, once what they have begun is acknowledged."""
        self._stop.set()

    async def run(self) -> None:
        """Sends until `stop`."""
        # A connection for each request, so that none is met half closed by the server that was killed.
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        async with (
            aiohttp.ClientSession(
                self.url,
                connector=connector,
                headers={"Authorization": "Basic " + b64encode(f"{WRITE_KEY}:".encode()).decode()},
                timeout=aiohttp.ClientTimeout(PATIENCE_SECONDS),
            ) as session,
            asyncio.TaskGroup() as group,
        ):
            for number in range(self.clients):
                group.create_task(self._client(session, number, random.Random(self.rng.random())))

    async def _client(self, session: aiohttp.ClientSession, client: int, rng: random.Random) -> None:
        keys = [f"device-{self.name}{client}-{number}" for number in range(self.keys)] + [
            f"user-own-{self.name}{client}"
        ]
        numbers: Counter[str] = Counter()
        while not self._stop.is_set():
            several = rng.random() < 0.6
            batch = [
                self._event(rng.choice(keys), numbers, rng) for _ in range(rng.randint(1, self.most) if several else 1)
            ]
            bodies = [sent.body() for sent in batch]
            faulty = []
            if several and rng.random() < 0.2:
                faulty = [f"nobody with {batch[0].message_id}"]
                nobody = {"type": "track", "event": "Nobody", "messageId": faulty[0]}
                bodies.insert(rng.randrange(len(bodies) + 1), nobody)
            if several:
                path, body = "/v1/batch", {"batch": bodies}
            else:
                path, body = f"/v1/{batch[0].type}", bodies[0]
            for _ in range(2 if rng.random() < 0.05 else 1):
                answer = await self._send(session, path, body)
                assert faulty == [one["messageId"] for one in answer.get("rejected", [])], answer
                self.faulty.update(faulty)
            now = time.monotonic()
            for sent in batch:
                sent.acknowledged_at = now
            await asyncio.sleep(rng.random() * 2 * self.pause)

    def _event(self, key: str, numbers: Counter[str], rng: random.Random) -> Sent:
        numbers[key] += 1
        sent = Sent(key, numbers[key], rng.choices(["track", "page", "identify"], [8, 2, 1])[0])
        if sent.type == "track":
            sent.name = rng.choices(NAMES, [40, 40, 5, 1])[0]
            sent.poison = rng.random() < self.poison
        if not key.startswith("device"):
            sent.user = key
        elif sent.type == "identify":
            # Few users for many devices, so that devices are shared and users have several.
            sent.user = f"user-{rng.randrange(self.clients * self.keys // 2)}"
        self.events[sent.message_id] = sent
        return sent

    async def _send(self, session: aiohttp.ClientSession, path: str, body: Any) -> dict[str, Any]:
        """Until it is answered by 200."""
        while True:
            pause = 0.1
            try:
                async with session.post(path, json=body) as response:
                    answer = await response.json()
                    self.answers[str(response.status)] += 1
                    if response.status == 200:
                        self.last_answer = time.monotonic()
                        return dict(answer)
                    assert response.status in (429, 503), (response.status, answer)
                    pause = 0.3
            except (aiohttp.ClientError, TimeoutError) as error:
                self.answers[type(error).__name__] += 1
            await asyncio.sleep(pause)
