"""What is told while something is sent again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from redis.exceptions import RedisError

from eventrouter.cli.feeding import Bar, held_up, print_held_up
from eventrouter.counters import read_snapshot
from eventrouter.health import Health
from eventrouter.pausing import pause
from routes_kit import HEAD, load


def router(lanes) -> Any:
    async def snapshot():
        return await read_snapshot(lanes, 1, ["crm", "gone"])

    return SimpleNamespace(snapshot=snapshot, config=load(HEAD))


def bar(lanes) -> Bar:
    return Bar(router(lanes), "Dead letters", 3)


async def test_what_is_waited_for_is_told_once(lanes, capsys):
    shown = bar(lanes)
    with shown:
        await shown.waiting("crm")
        await shown.waiting("crm")
        await Health(lanes, "crm", initial=1, max_interval=60).failed("HTTP [503]", 120)
        await shown.waiting("crm")
        shown.advance(1)
    assert [
        "Waiting for crm: what lies in its lanes goes first",
        "Waiting for crm: it is backing off: HTTP [503]",
    ] == capsys.readouterr().err.splitlines()


async def test_which_destinations_get_nothing_for_now_is_told_with_the_reason(lanes, capsys):
    assert {} == await held_up(router(lanes), ["crm"])
    await pause(lanes, "crm", "they [move]")
    held = await held_up(router(lanes), ["crm", "gone"])
    assert {"crm": "is paused: they [move]", "gone": "is not in routes.yaml"} == held
    print_held_up({"crm": held["crm"]})
    assert "What is queued waits, since crm is paused: they [move].\n" == capsys.readouterr().out


async def test_a_command_that_has_done_its_work_does_not_fail_since_nobody_can_tell_that(lanes):
    async def away():
        raise RedisError("Redis is away")

    assert {} == await held_up(SimpleNamespace(snapshot=away), ["crm"])


def test_without_a_terminal_there_is_no_bar(lanes, capsys):
    with bar(lanes) as shown:
        shown.advance(3)
    assert ("", "") == capsys.readouterr()
