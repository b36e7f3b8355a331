"""What is told while something is sent again."""

from __future__ import annotations

from types import SimpleNamespace

from eventrouter.cli.feeding import Bar
from eventrouter.counters import read_snapshot
from eventrouter.health import Health


def bar(lanes) -> Bar:
    async def snapshot():
        return await read_snapshot(lanes, 1, ["crm"])

    return Bar(SimpleNamespace(snapshot=snapshot), "Dead letters", 3)


async def test_what_is_waited_for_is_told_once(lanes, capsys):
    shown = bar(lanes)
    with shown:
        await shown.waiting("crm")
        await shown.waiting("crm")
        await Health(lanes, "crm", initial=1, max_interval=60, timeout=5).failed("HTTP [503]", 120)
        await shown.waiting("crm")
        shown.advance(1)
    assert [
        "Waiting for crm: what lies in its lanes goes first",
        "Waiting for crm: it is backing off: HTTP [503]",
    ] == capsys.readouterr().err.splitlines()


def test_without_a_terminal_there_is_no_bar(lanes, capsys):
    with bar(lanes) as shown:
        shown.advance(3)
    assert ("", "") == capsys.readouterr()
