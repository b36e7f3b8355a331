"""unserved.py: what waits for a destination that is not served grows old, and is given up when it is too old."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from deliver_kit import making
from eventrouter import deliver, pausing
from eventrouter.config_model import RetryConfig
from eventrouter.deliver import DeliveryTurn
from eventrouter.lane import Claim
from eventrouter.pausing import pause
from eventrouter.unserved import unserved

DAY = 86_400.0


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(deliver, "LINGER_SECONDS", 0.03)
    monkeypatch.setattr(pausing, "FRESH_SECONDS", 0.0)


@pytest.fixture
async def post(redis):
    async with making(redis) as make:
        yield make()


def rules(*, enabled: bool = True, max_age: float = 3600.0) -> SimpleNamespace:
    one = SimpleNamespace(enabled=enabled, retry=RetryConfig(max_age=max_age))
    return SimpleNamespace(destinations={"crm": one})


NOBODY = SimpleNamespace(destinations={})


async def serve(post, config) -> Claim | None:
    target = await unserved(config, "crm", post.lanes, post.enqueue, post.dropped.append, 30.0)
    turn = await post.begin()
    claim = await DeliveryTurn(turn, target, post.stopping).run()
    await target.attempts.destination.close()
    return claim


async def test_nothing_is_sent_and_what_waits_is_looked_at_again_later(post):
    await post.put("a", "b")
    claim = await serve(post, rules(enabled=False))
    assert (30.0, []) == (claim.delay, await post.letters())


@pytest.mark.parametrize(
    ("config", "why"),
    [(rules(enabled=False), "it is switched off"), (NOBODY, "it is not in routes.yaml"), (rules(), "paused: why")],
)
async def test_what_is_too_old_is_a_dead_letter_that_says_why_it_waited(post, config, why):
    await pause(post.lanes, "crm", "why")
    await post.put("old", age=73 * 3600.0)
    await post.put("new")
    await serve(post, config)
    [letter] = await post.letters()
    told = f"older than retry.max_age; what was last in the way: {why}"
    assert ("old", "max_age", told) == (letter.message_id, letter.class_, letter.reason)
    assert [letter] == post.dropped


async def test_without_rules_of_its_own_three_days_are_the_limit(post):
    await post.put("old", age=2 * DAY)
    await serve(post, NOBODY)
    assert [] == await post.letters()


async def test_the_claim_of_an_empty_lane_is_given_back(post):
    await post.put("old", age=5 * DAY)
    assert await serve(post, rules()) is None


async def test_a_batch_that_has_to_be_repeated_as_it_was_stays_so(post, redis):
    await post.put("a", "b")
    turn = await post.begin()
    items = (await turn.read()).items
    await turn.pin(items[0].id, items)
    post.claims.append(await turn.give_up())
    await serve(post, rules(enabled=False))
    ids = " ".join(item.id for item in items).encode()
    assert {items[0].id.encode(): ids} == await redis.hgetall(f"{post.lane.key}:pins")
