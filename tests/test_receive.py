import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from eventrouter import receive as module
from eventrouter.acceptance import BodyError, Limits
from eventrouter.errors import UnavailableError
from eventrouter.receive import Body, Budget, Disconnected

LIMITS = Limits(max_batch_bytes=10, body_timeout=0.1)


def arriving(*chunks: bytes | None) -> Callable[[], Awaitable[Any]]:
    """An ASGI `receive`: None is a client that went away, an Ellipsis at the end one that falls silent."""
    messages: list[dict[str, Any]] = []
    for chunk in chunks:
        kind = "http.disconnect" if chunk is None else "http.request"
        messages.append({"type": kind, "body": chunk or b"", "more_body": True})
    if chunks[-1] != b"silence":
        messages[-1]["more_body"] = False
    else:
        messages.pop()

    async def receive() -> Any:
        if not messages:
            await asyncio.sleep(60)
        return messages.pop(0)

    return receive


async def read(*chunks: bytes | None, length: int | None = None, budget: Budget | None = None) -> bytes:
    with (budget or Budget(100)).hold() as hold:
        return await Body(arriving(*chunks), length).read(LIMITS, hold)


@pytest.mark.parametrize("chunks", [[b"0123456789"], [b"", b"01234", b"", b"5678", b"9"], [b"01234", b"56789", b""]])
@pytest.mark.parametrize("length", [None, 10])
async def test_a_body_is_read_from_any_chunks(chunks: list[bytes], length: int | None) -> None:
    assert await read(*chunks, length=length) == b"0123456789"


async def test_an_empty_body_is_read() -> None:
    assert await read(b"") == b""


@pytest.mark.parametrize(("chunks", "length"), [([b"0123456789", b"0"], None), ([b"x"], 11), ([b"x" * 11], 5)])
async def test_a_body_beyond_the_limit_is_refused(chunks: list[bytes], length: int | None) -> None:
    with pytest.raises(BodyError) as caught:
        await read(*chunks, length=length)
    assert (caught.value.code, caught.value.status) == ("too_large", 413)


async def test_a_slow_body_is_given_up() -> None:
    with pytest.raises(BodyError) as caught:
        await read(b"012", b"silence")
    assert (caught.value.code, caught.value.status) == ("body_timeout", 408)


async def test_a_client_that_goes_away_is_noticed() -> None:
    with pytest.raises(Disconnected):
        await read(b"012", None)


@pytest.mark.parametrize("length", [None, 8])
async def test_bodies_share_a_budget(length: int | None) -> None:
    budget = Budget(10)
    with budget.hold() as hold:
        hold.resize(3)
        with pytest.raises(UnavailableError) as caught:
            await read(b"01234567", length=length, budget=budget)
        assert (budget.held, caught.value.retry_after) == (3, 1.0)
        hold.resize(2)
        assert await read(b"01234567", length=length, budget=budget) == b"01234567"
    assert budget.held == 0


@pytest.mark.parametrize("length", [None, 10])
async def test_what_has_not_come_is_not_held(length: int | None) -> None:
    budget = Budget(100)
    with budget.hold() as hold:
        reading = asyncio.create_task(Body(arriving(b"0", b"1", b"silence"), length).read(LIMITS, hold))
        await asyncio.sleep(0.02)
        assert budget.held == 2
        with pytest.raises(BodyError):
            await reading
    assert budget.held == 0


async def test_200_silent_connections_keep_nobody_out() -> None:
    limits = Limits(body_timeout=0.3)
    budget = Budget(limits.max_held_bytes)

    async def announce(*chunks: bytes) -> None:
        with pytest.raises(BodyError), budget.hold() as hold:
            await Body(arriving(*chunks, b"silence"), limits.max_batch_bytes).read(limits, hold)

    silent = [asyncio.create_task(announce(*[b"x"] * (number % 2))) for number in range(200)]
    await asyncio.sleep(0.05)
    assert budget.held == 100
    with budget.hold() as hold:
        whole = b"x" * limits.max_batch_bytes
        assert await Body(arriving(whole[:1000], whole[1000:]), len(whole)).read(limits, hold) == whole
    await asyncio.gather(*silent)


async def test_bodies_that_are_incomplete_leave_half_of_the_room_to_others() -> None:
    budget = Budget(20)
    with budget.hold() as hold:
        waiting = asyncio.create_task(Body(arriving(b"01234567", b"silence"), 9).read(LIMITS, hold))
        await asyncio.sleep(0.02)
        with pytest.raises(UnavailableError):
            await read(b"012", b"345", budget=budget)
        assert await read(b"01234567", budget=budget) == b"01234567"
        with pytest.raises(BodyError):
            await waiting
    assert await read(b"012", b"345", budget=budget) == b"012345"
    assert budget.held == 0


@pytest.mark.parametrize(("others", "code"), [(25, "body_timeout"), (0, None)])
async def test_a_body_that_creeps_is_given_up_where_bodies_crowd(
    monkeypatch: pytest.MonkeyPatch, others: int, code: str | None
) -> None:
    monkeypatch.setattr(module, "PACE_SECONDS", 0.05)
    monkeypatch.setattr(module, "PACE_BYTES", 3)

    async def receive() -> Any:
        await asyncio.sleep(0.03)
        chunks.append(b"x")
        return {"type": "http.request", "body": b"x", "more_body": len(chunks) < 9}

    chunks: list[bytes] = []
    budget = Budget(100)
    with budget.hold() as other, budget.hold() as hold:
        other.grow(others)
        reading = Body(receive, None).read(Limits(max_batch_bytes=10, body_timeout=5), hold)
        if code is None:
            assert await reading == b"x" * 9
        else:
            with pytest.raises(BodyError) as caught:
                await reading
            assert (caught.value.code, caught.value.status, len(chunks) < 4) == (code, 408, True)


async def test_a_body_that_keeps_up_is_read_where_bodies_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACE_SECONDS", 0.2)
    monkeypatch.setattr(module, "PACE_BYTES", 1)

    async def receive() -> Any:
        await asyncio.sleep(0.05)
        chunks.append(b"x")
        return {"type": "http.request", "body": b"x", "more_body": len(chunks) < 8}

    chunks: list[bytes] = []
    budget = Budget(100)
    with budget.hold() as other, budget.hold() as hold:
        other.grow(25)
        assert await Body(receive, None).read(Limits(body_timeout=5), hold) == b"x" * 8


async def test_what_is_left_of_a_body_is_drained() -> None:
    body = Body(arriving(b"x" * 11, b"rest", b"more"), None)
    with Budget(100).hold() as hold, pytest.raises(BodyError):
        await body.read(LIMITS, hold)
    assert await body.drain()
    assert await body.drain()


@pytest.mark.parametrize("chunks", [[b"x", b"silence"], [b"x", None], [b"x" * 100, b"x" * 100, b"silence"]])
async def test_draining_ends(chunks: list[bytes | None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAIN_SECONDS", 0.1)
    monkeypatch.setattr(module, "DRAIN_BYTES", 150)
    assert not await Body(arriving(*chunks), None).drain()


async def test_a_huge_body_is_not_drained() -> None:
    assert not await Body(arriving(b"silence"), module.DRAIN_BYTES + 1).drain()
