"""Collectors and workers on several machines; one loses its network, a worker is killed: nothing is lost or twice."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from chaos_ledger import Ledger
from chaos_load import Load
from chaos_machines import Machine, rules
from chaos_sink import Sink
from lan import Lan
from outside_valkey import OutsideValkey

from eventrouter.builtin.warehouse.postgres_store import PostgresStore
from eventrouter.errors import Retry
from postgres_kit import postgres_at
from warehouse_kit import messages, record, select, warehouse_at

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's"),
]
FAST_CLOCK = """
import time
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + 3600
time.time_ns = lambda: _time_ns() + 3600 * 10**9
"""
"""The clock of a machine that is an hour ahead, as Python's `sitecustomize`."""
CUT_SECONDS = 9.0
"""Longer than a lease, so that another machine takes the lanes over."""


def test_a_machine_that_loses_its_network_and_a_killed_worker_lose_nothing(tmp_path: Path) -> None:
    with Lan("a", "b") as lan:
        lan.run("center", lambda: _scenario(lan, tmp_path))


def test_a_machine_that_vanishes_in_the_midst_of_a_transaction_does_not_hold_the_others_up_for_long() -> None:
    with Lan("a") as lan:
        lan.run("center", lambda: _vanish(lan))


async def _vanish(lan: Lan) -> None:
    with postgres_at(lan.address("center")) as url, lan.inside("a") as machine:
        warehouse = warehouse_at(url)
        await warehouse.deliver(messages(record("before")))
        store = machine.submit(lambda: PostgresStore(sa.make_url(url.replace("://", "+psycopg://")))).result()
        for statement in ("BEGIN", "LOCK TABLE events IN EXCLUSIVE MODE"):
            machine.submit(store.execute, statement).result()
        lan.pull("a")
        async with asyncio.timeout(80):  # without a sign of life the database would wait for 100 s
            while True:
                try:
                    await warehouse.deliver(messages(record("after")))
                    break
                except Retry:
                    continue
        await warehouse.close()
        machine.submit(store.close).result()
        assert [("after",), ("before",)] == select(url, "SELECT id FROM tracks ORDER BY id")


async def _scenario(lan: Lan, tmp_path: Path) -> None:
    rng = random.Random(5)
    center = lan.address("center")
    with postgres_at(center) as postgres, OutsideValkey(tmp_path, host=center) as valkey:
        async with Sink(rng, {"one": 150, "many": 15}, host=center) as sink:
            environment = {"EVENTROUTER_REDIS_URL": valkey.url}
            text = rules(postgres, f"{center}:{sink.port}")
            (tmp_path / "clock").mkdir()
            (tmp_path / "clock" / "sitecustomize.py").write_text(FAST_CLOCK)
            fast = os.pathsep.join(filter(None, [str(tmp_path / "clock"), os.environ.get("PYTHONPATH")]))
            a = Machine(lan, "a", tmp_path / "a", text, environment)
            b = Machine(lan, "b", tmp_path / "b", text, environment | {"PYTHONPATH": fast})
            loads = {one: Load(one.url, random.Random(rng.random()), clients=3, name=one.name) for one in (a, b)}
            try:
                for one in (a, b):
                    one.start("work")
                    one.start("collect")
                await asyncio.gather(a.ready(), b.ready())
                # The clients of a machine are on it, as the servers of an application are.
                with lan.inside("a") as thread_a, lan.inside("b") as thread_b:
                    sending = [
                        asyncio.wrap_future(thread.submit(lambda load=load: asyncio.run(load.run())))
                        for thread, load in ((thread_a, loads[a]), (thread_b, loads[b]))
                    ]
                    await asyncio.sleep(3)
                    lan.pull("b")
                    await asyncio.sleep(CUT_SECONDS)
                    lan.plug("b")
                    await asyncio.sleep(3)
                    a.kill("work")
                    await asyncio.sleep(3)
                    a.start("work")
                    await asyncio.sleep(2)
                    for load in loads.values():
                        load.stop()
                    await asyncio.gather(*sending)
                sink.well = True
                events = {key: sent for load in loads.values() for key, sent in load.events.items()}
                faulty = set().union(*(load.faulty for load in loads.values()))
                status = await a.drained(len(events))
                assert [one.stop(command) for one in (a, b) for command in ("collect", "work")] == [0, 0, 0, 0]
                faults = Ledger(events, faulty, sink.arrivals, status, postgres).check()
                print({one.name: load.answers for one, load in loads.items()}, len(events), status["events"])
                assert faults == [], "\n".join(faults)
            except BaseException:
                print(*(f"{one.name}: {one.last_words()}" for one in (a, b)), sep="\n\n")
                raise
            finally:
                a.close()
                b.close()
