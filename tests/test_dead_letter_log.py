"""Dead letters are told: each to plugins, and to readers of the log in few lines, with their number."""

from __future__ import annotations

import asyncio
from typing import Any

from structlog.testing import capture_logs

from eventrouter.dead_letter_log import DeadLetterLog
from eventrouter.records import DeadLetter


def letter(
    message_id: str, destination: str = "crm", class_: str = "permanent", reason: str = "HTTP 422"
) -> DeadLetter:
    return DeadLetter(
        source="web",
        message_id=message_id,
        destination=destination,
        route="all",
        class_=class_,
        reason=reason,
        attempts=1,
        first_at="2026-11-24T17:00:00.000Z",
        last_at="2026-11-24T17:00:00.000Z",
    )


def told(lines: list[Any]) -> list[tuple[Any, ...]]:
    return [(line["destination"], line["class"], line.get("message_id"), line.get("number")) for line in lines]


async def test_the_first_is_told_at_once_and_the_others_by_their_number() -> None:
    tell = DeadLetterLog(seconds=0.1)
    with capture_logs() as lines:
        for number in range(50):
            tell(letter(f"m{number}"))
        assert told(lines) == [("crm", "permanent", "m0", None)]
        await asyncio.sleep(0.15)
        tell(letter("later"))
        await asyncio.sleep(0.15)
    assert told(lines)[1:] == [("crm", "permanent", None, 49), ("crm", "permanent", None, 1)]
    tell.close()


async def test_after_a_quiet_time_the_next_one_is_told_at_once() -> None:
    tell = DeadLetterLog(seconds=0.05)
    with capture_logs() as lines:
        tell(letter("m1"))
        await asyncio.sleep(0.1)
        tell(letter("m2"))
    assert [line[2] for line in told(lines)] == ["m1", "m2"]
    tell.close()


async def test_each_destination_and_class_has_lines_of_its_own() -> None:
    tell = DeadLetterLog()
    with capture_logs() as lines:
        for destination, class_ in (
            ("crm", "permanent"),
            ("crm", "max_age"),
            ("ads", "permanent"),
            ("ads", "permanent"),
        ):
            tell(letter("m", destination, class_))
        assert told(lines) == [
            ("crm", "permanent", "m", None),
            ("crm", "max_age", "m", None),
            ("ads", "permanent", "m", None),
        ]
        tell.close()
    assert told(lines)[3:] == [("ads", "permanent", None, 1)]


async def test_the_reason_is_told_and_cut() -> None:
    tell = DeadLetterLog()
    with capture_logs() as lines:
        tell(letter("m", reason="x" * 1000))
    assert [line["reason"] for line in lines] == ["x" * 200]
    tell.close()


async def test_plugins_are_told_of_every_one() -> None:
    heard: list[dict[str, str]] = []
    tell = DeadLetterLog(lambda **arguments: heard.append(arguments))
    for number in range(3):
        tell(letter(f"m{number}"))
    assert [one["message_id"] for one in heard] == ["m0", "m1", "m2"]
    assert heard[0] == {"source": "web", "message_id": "m0", "destination": "crm", "reason": "HTTP 422"}
    tell.close()
