"""A probe: one batch that tells whether a destination is back, while all the others wait."""

from __future__ import annotations

from functools import partial

from .elapsed import elapsed
from .health import Health
from .lease import Lease


class Probe:
    """The probe of one turn at most, as `Health.gate` gives it: renewed until it ends.

    That of a worker that was killed is over within `LEASE_MS`.
    """

    def __init__(self, health: Health) -> None:
        self._health = health
        self._lease: Lease | None = None
        self.token = ""
        """With which its results are told; '' while this turn has none."""

    async def gate(self) -> float:
        """Asks whether to try. Returns the seconds to wait; 0: go, where there is a `token` now with one batch."""
        if self.token:
            return 0.0
        began = elapsed()
        gate = await self._health.gate()
        if gate.probe:
            self.token = gate.probe
            self._lease = Lease(partial(self._health.keep, self.token), began)
            self._lease.start()
        return gate.wait

    async def is_held(self) -> bool:
        """Whether nobody else has it, so that something may be sent; True without one."""
        return self._lease is None or await self._lease.is_held()

    async def end(self, *, told: bool) -> None:
        """It is over. Unless it `told` something of the destination, the next to ask has another one."""
        if self._lease is not None:
            if not told:
                await self._health.release(self.token)
            await self._stop(self._lease)

    async def leave(self) -> None:
        """As `end`, where it told nothing and nobody can be told: the next to ask in this worker has another one."""
        if self._lease is not None:
            self._health.leave(self.token)
            await self._stop(self._lease)

    async def _stop(self, lease: Lease) -> None:
        self.token, self._lease = "", None
        await lease.stop()
