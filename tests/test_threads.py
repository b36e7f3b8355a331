"""Threads that do what blocks: everything that was submitted comes to an end, whatever its thread does."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time

import pytest

from eventrouter.threads import StoppedError, Threads


def alive(name: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(name)]


async def test_work_is_done_in_other_threads_in_order_and_its_errors_come_back():
    threads = Threads(1, "order")
    done: list[int] = []
    results = [threads.run(lambda n=n: done.append(n) or threading.current_thread().name) for n in range(50)]
    assert {"order_1"} == set(await asyncio.gather(*results))
    assert list(range(50)) == done
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)
    assert await threads.stop(1, lambda: None)


async def test_no_more_work_runs_at_once_than_there_are_threads():
    threads = Threads(3, "few")
    running, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    await asyncio.gather(*(threads.run(work) for _ in range(20)))
    assert 3 == most
    await threads.stop(1, lambda: None)


async def test_a_single_caller_needs_a_single_thread():
    threads = Threads(8, "single")
    for _ in range(5):
        await threads.run(lambda: None)
    assert ["single_1"] == alive("single")
    await threads.stop(1, lambda: None)


async def test_a_stop_lets_what_runs_end_and_fails_what_has_not_begun():
    threads = Threads(1, "stop")
    begun = threading.Event()

    def work() -> str:
        begun.set()
        time.sleep(0.2)
        return "done"

    running, waiting = asyncio.create_task(threads.run(work)), asyncio.create_task(threads.run(work))
    while not begun.is_set():
        await asyncio.sleep(0.001)
    assert await threads.stop(5, lambda: None)
    assert "done" == await running
    with pytest.raises(StoppedError):
        await waiting
    with pytest.raises(StoppedError):
        await threads.run(work)
    assert [] == alive("stop")


async def test_what_runs_is_hurried_after_its_grace():
    threads = Threads(1, "hurry")
    told = threading.Event()
    work = asyncio.create_task(threads.run(told.wait))
    await asyncio.sleep(0.05)
    started = time.monotonic()
    assert await threads.stop(5, told.set, grace=0.2)
    assert await work
    assert 0.2 <= time.monotonic() - started < 2


async def test_what_does_not_end_is_left_behind():
    threads = Threads(1, "deaf")
    hold = threading.Event()
    work = asyncio.create_task(threads.run(hold.wait))
    await asyncio.sleep(0.05)
    hurried: list[int] = []
    started = time.monotonic()
    assert not await threads.stop(0.5, lambda: hurried.append(1))
    assert 0.5 <= time.monotonic() - started < 2
    assert 2 <= len(hurried) <= 4
    with pytest.raises(StoppedError):
        await work
    hold.set()


async def test_a_cancelled_caller_takes_back_what_has_not_begun():
    threads = Threads(1, "cancel")
    hold = threading.Event()
    first = asyncio.create_task(threads.run(hold.wait))
    done: list[int] = []
    second = asyncio.create_task(threads.run(lambda: done.append(1)))
    await asyncio.sleep(0.05)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    hold.set()
    await first
    await threads.run(lambda: None)
    assert [] == done
    await threads.stop(1, lambda: None)


async def test_threads_that_were_forgotten_end():
    threads = Threads(2, "forgotten")
    await threads.run(lambda: None)
    del threads
    gc.collect()
    for _ in range(100):
        if not alive("forgotten"):
            break
        await asyncio.sleep(0.02)
    assert [] == alive("forgotten")


def test_a_process_exits_while_a_thread_is_still_at_work():
    code = "import time; from eventrouter.threads import Threads; Threads(1, 'x').submit(lambda: time.sleep(60))"
    started = time.monotonic()
    assert 0 == subprocess.run([sys.executable, "-c", code], timeout=30).returncode
    assert time.monotonic() - started < 20
