"""A chaos run: a load, what befalls the system meanwhile, and the count of everything afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from chaos_ledger import Ledger
from chaos_load import Load
from chaos_operator import Operator
from chaos_sink import Sink
from chaos_system import System


class Run:
    """`run` it; what it has to `tell` is printed when it ends, and the system's last words when it breaks off."""

    def __init__(self, name: str) -> None:
        self.told = [name]

    def tell(self, what: str) -> None:
        """Something that happened, with the time."""
        self.told.append(f"{time.monotonic():6.1f} s  {what}")

    async def run(
        self,
        system: System,
        load: Load,
        sink: Sink,
        befall: Callable[[asyncio.TaskGroup], Awaitable[None]],
        warehouse: Path | str,
        operator: Operator | None = None,
    ) -> list[str]:
        """Starts the system and the load; once `befall` has returned and all is delivered, what does not add up.

        `befall` gets a group for what may last longer than the load.
        `warehouse` is the data directory, or the URL of a warehouse on PostgreSQL.
        """
        replays, dealt = (operator.replays, operator.dealt) if operator else ((), ())
        try:
            await system.start()
            async with asyncio.TaskGroup() as later:
                async with asyncio.TaskGroup() as group:
                    sending = group.create_task(load.run())
                    await befall(later)
                    await asyncio.sleep(1)
                    load.stop()
                    await sending
                self.tell(f"the load ends: {len(load.events)} events, {load.answers}")
                sink.well = True
            status = await system.drained()
            self.tell(f"drained: {status['events']}")
            faults = await system.audit()
            code, seconds = await system.stop()
            self.tell(f"stopped in {seconds:.1f} s")
            ledger = Ledger(
                load.events,
                load.faulty,
                sink.arrivals,
                status,
                warehouse,
                variants=system.variants,
                replays=replays,
                dealt=dealt,
            )
            faults += ledger.check()
            self.tell(f"of unknown order: {dict(ledger.exempt)}; turns that were taken over: {system.taken_over()}")
            if code:
                faults.append(f"up ended with {code}")
        except BaseException:
            print(*self.told, sep="\n")
            print(system.last_words())
            raise
        finally:
            system.close()
        print(*self.told, sep="\n")
        return [*self.told, *faults] if faults else []
