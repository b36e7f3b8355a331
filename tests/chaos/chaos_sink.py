"""What receives deliveries in a chaos run: an HTTP server in the test's own process that notes everything it sees."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from dataclasses import dataclass

from aiohttp import web

FAULTS = ("500", "503", "429", "hang", "cut", "lost", "slow")
"""What a request may meet instead of 200."""
TAKEN = ("200", "slow", "hang", "lost")
"""With these answers the receiver has taken what it did not refuse."""
HANG_SECONDS = 3.0


@dataclass(frozen=True)
class Arrival:
    """One request."""

    destination: str
    webhook_id: str
    body: str
    """A digest of the body."""
    message_ids: tuple[str, ...]
    versions: tuple[int, ...]
    """Of the rules that made them."""
    answer: str
    """200, 400, or the fault."""
    refused: bool
    """The receiver takes nothing of it, whether or not its answer says so."""
    at: float
    """By time.monotonic()."""


class Sink:
    """Use it as an asynchronous context manager. Posts to `/NAME` are the arrivals of the destination NAME."""

    def __init__(self, rng: random.Random, fault_every: dict[str, int] | None = None, host: str = "127.0.0.1") -> None:
        """`fault_every` says for a destination after about how many requests one fails."""
        self._host = host
        self.arrivals: list[Arrival] = []
        self.well = False
        """True: no more faults."""
        self.mended = False
        """True: it takes what it refused, too."""
        self.hangs = False
        """True: no request is answered."""
        self.changed = asyncio.Event()
        """Set at each arrival."""
        self._rng = rng
        self._every = fault_every or {}
        self._countdown = {name: self._gap(name) for name in self._every}
        self._freed = asyncio.Event()
        self.port = 0

    def _gap(self, name: str) -> int:
        return self._rng.randint(1, 2 * self._every[name])

    async def __aenter__(self) -> Sink:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/{destination}", self._receive)
        # It has no access log, and doesn't wait for requests that hang.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, 0)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._freed.set()
        await self._runner.cleanup()

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        events = json.loads(body)
        events = events if isinstance(events, list) else [events]
        name = request.match_info["destination"]
        poisoned = not self.mended and any(event.get("properties", {}).get("poison") for event in events)
        fault = self._fault(name)
        answer = fault or ("400" if poisoned else "200")
        self.arrivals.append(
            Arrival(
                name,
                request.headers["webhook-id"],
                hashlib.sha256(body).hexdigest(),
                tuple(event["messageId"] for event in events),
                tuple(event["context"]["version"] for event in events),
                answer,
                poisoned,
                time.monotonic(),
            )
        )
        self.changed.set()
        if self.hangs:
            await self._freed.wait()
        match answer:
            case "slow":
                await asyncio.sleep(0.5)
            case "hang":
                await asyncio.sleep(HANG_SECONDS)
            case "cut" | "lost":
                assert request.transport is not None
                request.transport.close()
            case "500":
                return web.Response(status=500)
            case "503" | "429":
                return web.Response(status=int(answer), headers={"Retry-After": "1"})
        return web.Response(status=400 if poisoned else 200)

    def _fault(self, name: str) -> str:
        if self.well or name not in self._every:
            return ""
        self._countdown[name] -= 1
        if self._countdown[name] > 0:
            return ""
        self._countdown[name] = self._gap(name)
        return self._rng.choice(FAULTS)
