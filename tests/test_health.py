"""The health of a destination, on a real server with a clock of the test's own: backing off, probes, the hold."""

from __future__ import annotations

import random
import time
from types import SimpleNamespace

import pytest

from eventrouter import health as health_module
from eventrouter.health import (
    CONVINCING,
    FIRST_PROBE_SECONDS,
    FRESH_SECONDS,
    HOLD_SECONDS,
    ROW_SECONDS,
    SPEAKS_SECONDS,
    SUCCESS_SPEAKS_SECONDS,
    Gate,
    Health,
    Refusals,
)
from eventrouter.lane import LEASE_MS, FencedError

HOUR = 3_600_000
KEY = health_module.health_key("crm")


@pytest.fixture
def make(clock, lanes):
    def one(name="crm", *, initial=1.0, max_interval=60.0) -> Health:
        return Health(lanes, name, initial=initial, max_interval=max_interval)

    return one


@pytest.fixture
def full_jitter(monkeypatch):
    """The longest delay that the jitter may come to."""
    monkeypatch.setattr(random, "random", lambda: 1.0)


async def probe(health: Health) -> str:
    """The token of a probe, which there must be."""
    gate = await health.gate()
    assert gate.probe
    return gate.probe


async def put_on_hold(health: Health) -> None:
    await health.refused("message 1", "HTTP 401")
    await health.refused("message 2", "HTTP 401")
    assert "hold" == health.state


async def test_a_destination_is_well_until_told_otherwise(make):
    health = make()
    assert Gate(0.0) == await health.gate()
    assert ("", "") == (health.state, health.reason)


async def test_what_is_known_is_as_old_as_the_question(make, monkeypatch):
    health = make()
    monkeypatch.setattr(health_module, "time", SimpleNamespace(monotonic=iter([100.0, 100.9]).__next__))
    await health.gate()
    assert 101.0 == health._fresh_until


async def test_while_it_is_well_asking_costs_a_round_trip_once_a_second(make, redis):
    health = make()
    await health.gate()
    await make().failed("away", 60)
    assert Gate(0.0) == await health.gate()
    health._fresh_until -= FRESH_SECONDS
    assert (await health.gate()).wait > 0


async def test_failures_in_a_row_back_off_further_and_further_up_to_the_limit(make, clock, full_jitter):
    health = make()
    waits = []
    for _ in range(9):
        waits.append(await health.failed("HTTP 500"))
        await clock.tick(HOUR)
    assert [1, 2, 4, 8, 16, 32, 60, 60, 60] == waits


async def test_the_delay_is_random_so_that_workers_do_not_come_back_together(make, clock):
    waits = set()
    for _ in range(20):
        health = make()
        for _ in range(6):
            await health.failed("away")
            await clock.tick(HOUR)
        waits.add(await health.failed("away"))
        await clock.tick(HOUR)
        await health.succeeded()
    assert len(waits) > 15
    assert all(0.1 <= wait <= 60 for wait in waits)


async def test_failures_that_were_under_way_together_count_once(make, clock, full_jitter):
    health = make()
    assert [1.0, 1.0] == [await health.failed("away"), await make().failed("away")]
    await clock.tick(1000)
    assert 2 == await health.failed("away")


async def test_a_named_time_wins_over_the_backoff_and_is_not_shortened(make, clock, full_jitter):
    health = make()
    assert 1800 == await health.failed("HTTP 429", 1800)
    assert 1800 == await health.failed("HTTP 500")
    await clock.tick(1_799_000)
    assert Gate(1.0) == await health.gate()


async def test_one_probe_at_a_time_when_the_wait_is_over_and_the_others_come_back_soon(make, clock):
    one, other = make(), make()
    await one.failed("away", 5)
    assert Gate(5.0) == await other.gate()
    await clock.tick(5000)
    assert (await one.gate()).probe
    assert Gate(0.5) == await other.gate()
    await one.succeeded()
    assert Gate(0.0) == await other.gate()
    assert "" == other.state


async def test_a_probe_whose_worker_died_is_followed_by_another_within_a_lease(make, clock):
    one, other = make(), make()
    await one.failed("away", 0.2)
    await clock.tick(200)
    await probe(one)
    await clock.tick(LEASE_MS - 1)
    assert not (await other.gate()).probe
    await clock.tick(1)
    assert (await other.gate()).probe


async def test_a_probe_may_take_longer_than_its_lease_while_its_holder_renews_it(make, clock):
    one, other = make(), make()
    await one.failed("away", 0.2)
    await clock.tick(200)
    token = await probe(one)
    for _ in range(4):
        await clock.tick(LEASE_MS - 1)
        await one.keep(token)
        assert Gate(0.5) == await other.gate()
    await clock.tick(LEASE_MS)
    await one.keep(token)  # late, but nobody has another one
    assert not (await other.gate()).probe


async def test_who_has_a_probe_no_more_can_not_renew_it(make, clock, redis):
    one, other = make(), make()
    await one.failed("away", 0.2)
    await clock.tick(200)
    token = await probe(one)
    with pytest.raises(FencedError):
        await other.keep("a stranger")
    await clock.tick(LEASE_MS)
    await probe(other)
    with pytest.raises(FencedError):
        await one.keep(token)
    assert clock.ms + LEASE_MS == int(await redis.hget(KEY, "probing"))


@pytest.mark.parametrize("ends", ["it is back", "another probe", "other rules", "resumed", "released"])
@pytest.mark.parametrize("tells", ["failed", "refused", "succeeded", "release"])
async def test_what_comes_of_a_probe_that_is_over_changes_nothing(make, clock, lanes, redis, ends, tells):
    one, other = make(), make()
    await put_on_hold(one)
    await clock.tick(int(FIRST_PROBE_SECONDS * 1000))
    token = await probe(one)
    if ends == "released":
        await one.release(token)
    elif ends == "other rules":
        await other.probe_soon()
    elif ends == "resumed":
        await pause(lanes)
        await one.keep(token)
        await resume(lanes)
    else:
        await clock.tick(LEASE_MS)
        following = await probe(other)
        if ends == "it is back":
            await other.succeeded(probe=following)
    before = await redis.hgetall(KEY)
    await clock.tick(100)
    if tells == "refused":
        _, refusals = await one.refused("message 3", "HTTP 401", probe=token)
        assert 0 == refusals.number
    elif tells == "release":
        await one.release(token)
    elif tells == "failed":
        assert await one.failed("away", 900.0, probe=token) <= 0.5
    else:
        await one.succeeded(probe=token)
    assert before == await redis.hgetall(KEY)


async def test_a_failure_from_before_a_probe_leaves_what_comes_of_it_to_the_probe(make, clock, redis):
    one, other = make(), make()
    await one.failed("away", 0.2)
    await clock.tick(200)
    token = await probe(one)
    assert 0.5 == await other.failed("away too")
    await one.keep(token)
    await one.succeeded(probe=token)
    assert ("", Gate(0.0)) == (one.state, await make().gate())


async def test_a_refusal_from_before_the_probe_of_a_hold_does_not_lengthen_it(make, clock):
    one, other = make(), make()
    await put_on_hold(one)
    await clock.tick(int(FIRST_PROBE_SECONDS * 1000))
    token = await probe(one)
    assert 0.5 == (await other.refused("message 3", "HTTP 401"))[0]
    await one.succeeded(probe=token)
    assert "" == one.state


async def test_a_probe_of_which_some_was_taken_may_fail_all_the_same(make, clock, full_jitter):
    health = make()
    await health.failed("away", 0.2)
    await clock.tick(200)
    token = await probe(health)
    await health.succeeded(probe=token)
    assert 1 == await health.failed("HTTP 503", probe=token)


async def test_a_probe_goes_on_during_a_pause_and_no_other_begins(make, clock, lanes):
    health = make()
    await health.failed("away", 0.2)
    await clock.tick(200)
    token = await probe(health)
    await pause(lanes)
    await clock.tick(LEASE_MS)
    await health.keep(token)
    assert Gate(30.0) == await make().gate()
    await health.succeeded(probe=token)
    await resume(lanes)
    assert Gate(0.0) == await make().gate()


async def test_a_probe_that_was_left_is_taken_up_by_its_worker_at_once_and_by_others_after_its_lease(make, clock):
    one, other = make(), make()
    await one.failed("away", 0.2)
    await clock.tick(200)
    one.leave(await probe(one))
    assert Gate(0.5) == await other.gate()
    token = await probe(one)
    assert Gate(0.5) == await one.gate()
    one.leave(token)
    await clock.tick(LEASE_MS)
    await probe(other)
    assert Gate(0.5) == await one.gate()


async def test_a_probe_that_told_nothing_is_followed_by_another_at_once(make, clock):
    one, other = make(), make()
    await one.failed("away", 0.2)
    await clock.tick(200)
    await one.release(await probe(one))
    assert (await other.gate()).probe


async def test_releasing_a_probe_does_not_end_a_wait_that_somebody_else_was_told(make, clock):
    one, other = make(), make()
    await one.failed("away", 0.2)
    await clock.tick(200)
    token = await probe(one)
    await other.failed("HTTP 429", 600)
    await one.release(token)
    assert Gate(600.0) == await one.gate()


async def test_a_probe_that_fails_backs_off_further(make, clock, full_jitter):
    health = make()
    await health.failed("away")
    await clock.tick(1000)
    assert 2 == await health.failed("still away", probe=await probe(health))
    assert ("backoff", "still away") == (health.state, health.reason)


async def test_a_success_during_the_wait_does_not_end_it_and_one_after_it_does(make, clock, full_jitter):
    health = make()
    await health.failed("HTTP 429", 60)
    await make().succeeded()  # an attempt that was under way
    assert 60 == (await health.gate()).wait
    await clock.tick(60_000)
    await health.succeeded()
    assert Gate(0.0) == await health.gate()
    assert 1 == await health.failed("away")  # the row begins anew


async def test_a_second_different_message_refused_puts_it_on_hold(make, clock):
    one, other = make(), make()
    assert (0.0, Refusals(1, False)) == await one.refused("message 1", "HTTP 401")
    assert (0.0, Refusals(2, False)) == await one.refused("message 1", "HTTP 401")
    wait, refusals = await other.refused("message 2", "HTTP 401")
    assert (FIRST_PROBE_SECONDS, "hold", "HTTP 401") == (wait, other.state, other.reason)
    assert Refusals(3, True) == refusals
    assert FIRST_PROBE_SECONDS == (await make().gate()).wait


async def test_a_success_between_two_refusals_shows_that_the_key_is_good(make, clock):
    health = make()
    await health.refused("message 1", "HTTP 404")
    await health.succeeded()
    assert (0.0, Refusals(1, False)) == await health.refused("message 2", "HTTP 404")


async def test_soon_after_a_success_it_takes_more_than_two_refusals(make, clock):
    health = make()
    await health.refused("message 0", "HTTP 404")
    await health.succeeded()
    waits = [(await health.refused(f"message {number}", "HTTP 404"))[0] for number in range(CONVINCING)]
    assert [0.0] * (CONVINCING - 1) + [FIRST_PROBE_SECONDS] == waits


async def test_the_same_few_again_and_again_are_no_more_than_they_are(make, clock):
    health = make()
    await health.succeeded()
    for _ in range(10):
        waits = [(await health.refused(f"message {number}", "HTTP 404"))[0] for number in range(CONVINCING - 1)]
        assert [0.0] * (CONVINCING - 1) == waits
    assert (FIRST_PROBE_SECONDS, (10 * (CONVINCING - 1) + 1, True)) == await health.refused("another", "HTTP 404")


async def test_of_one_message_alone_no_number_of_refusals_is_enough(make, clock):
    health = make()
    for number in range(20):
        assert (0.0, (number + 1, False)) == await health.refused("message 1", "HTTP 404")


async def test_a_success_does_not_speak_for_ever(make, clock):
    health = make()
    await health.succeeded()
    await clock.tick(int(SUCCESS_SPEAKS_SECONDS * 1000) + 1)
    waits = [(await health.refused(f"message {number}", "HTTP 401"))[0] for number in range(2)]
    assert [0.0, FIRST_PROBE_SECONDS] == waits


async def test_refusals_that_were_under_way_together_do_not_prolong_the_first_wait(make, clock):
    one, other = make(), make()
    await put_on_hold(one)
    assert FIRST_PROBE_SECONDS == (await other.refused("message 2", "HTTP 401"))[0]


async def test_a_destination_on_hold_is_probed_now_and_then_until_it_takes_something(make, clock):
    health = make()
    await put_on_hold(health)
    await clock.tick(int(FIRST_PROBE_SECONDS * 1000))
    assert HOLD_SECONDS == (await health.refused("message 1", "HTTP 401", probe=await probe(health)))[0]
    await clock.tick(int(HOLD_SECONDS * 1000))
    await health.failed("HTTP 500", probe=await probe(health))  # says nothing of the key
    assert "hold" == health.state
    await clock.tick(HOUR)
    await health.succeeded(probe=await probe(health))
    assert "" == health.state


async def test_who_corrects_the_rules_does_not_wait_for_the_hold(make):
    health = make()
    await put_on_hold(health)
    await make().probe_soon()
    assert (await health.gate()).probe


async def test_probing_soon_changes_nothing_for_one_that_is_well(make, redis):
    await make().probe_soon()
    assert not await redis.exists("er:{dest:crm}:health")


async def test_one_destinations_health_is_not_anothers(make):
    await make("crm").failed("away", 60)
    assert Gate(0.0) == await make("erp").gate()


async def test_since_when_it_fails_is_kept(make, clock, redis):
    health = make()
    began = clock.ms
    for _ in range(3):
        await health.failed("away")
        await clock.tick(HOUR)
    assert began == int(await redis.hget("er:{dest:crm}:health", "since"))


async def test_why_deliveries_are_tried_again_is_noted_once_a_second_and_logged_now_and_then(make, redis, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    told: list[tuple[int, str]] = []
    warn = lambda _, **fields: told.append((fields["number"], fields["reason"]))  # noqa: E731
    monkeypatch.setattr(health_module, "log", SimpleNamespace(warning=warn))
    health = make()
    noted = []
    for after, reason in ((0, "HTTP 500"), (0.5, "HTTP 501"), (0.6, "HTTP 502"), (9, "HTTP 503")):
        now[0] += after
        await health.parked(2, reason)
        noted.append((await redis.hget("er:{dest:crm}:health", "retry_reason")).decode())
    assert ["HTTP 500", "HTTP 500", "HTTP 502", "HTTP 503"] == noted
    assert [(2, "HTTP 500"), (6, "HTTP 503")] == told
    assert ("", "") == (health.state, health.reason)


async def test_a_reason_is_cut(make, redis):
    await make().failed("x" * 10_000)
    assert 500 == len(await redis.hget("er:{dest:crm}:health", "reason"))


async def test_success_is_told_at_most_once_a_second(make, clock, redis):
    health = make()
    await health.gate()
    await health.succeeded()
    first = await redis.hget("er:{dest:crm}:health", "success")
    await clock.tick(500)
    await health.succeeded()
    assert first == await redis.hget("er:{dest:crm}:health", "success")
    health._told -= FRESH_SECONDS
    await health.succeeded()
    assert first != await redis.hget("er:{dest:crm}:health", "success")


async def test_the_third_different_failure_in_a_row_is_not_the_deliverys_own(make):
    health = make()
    assert [True, True, True, False, False] == [health.alone(one, again=False) for one in "aabca"]
    health.taken()
    assert health.alone("d", again=False)


async def test_failures_that_are_minutes_apart_are_no_row(make):
    health = make()
    assert [True, True] == [health.alone(one, again=False) for one in "ab"]
    health._row_began -= ROW_SECONDS + 1
    assert health.alone("c", again=False)


async def test_what_failed_before_tells_nothing_while_others_are_taken(make):
    health = make()
    health.taken()
    assert all(health.alone(str(number), again=True) for number in range(10))
    health.last_success_ms -= SPEAKS_SECONDS * 1000
    assert [True, True, False] == [health.alone(one, again=True) for one in "abc"]


async def test_whatever_fails_while_it_backs_off_is_its_failure(make):
    health = make()
    await health.failed("HTTP 500")
    assert not health.alone("a", again=True)


def test_a_parked_key_waits_longer_each_time_within_bounds(make, full_jitter):
    health = make()
    assert [1, 2, 4, 60, 60] == [health.delay(attempts, None) for attempts in (1, 2, 3, 20, 1000)]
    assert 7 == health.delay(3, 7.0)


def test_the_shortest_wait_of_a_parked_key_is_not_nothing(make, monkeypatch):
    monkeypatch.setattr(random, "random", lambda: 0.0)
    assert 0.1 == make().delay(5, None)
    assert 0.02 == make(initial=0.02).delay(5, None)


@pytest.mark.parametrize("named", [0, 0.0])
async def test_a_service_that_names_no_wait_at_all_does_not_switch_the_backoff_off(make, clock, full_jitter, named):
    health = make()
    waits = []
    for _ in range(4):
        waits.append(await health.failed("HTTP 429", named))
        await clock.tick(HOUR)
    assert [1, 2, 4, 8] == waits
    assert [1, 2, 4, 8] == [health.delay(attempts, named) for attempts in (1, 2, 3, 4)]


async def test_a_clock_that_is_set_back_makes_no_wait_longer(make, clock, full_jitter):
    health = make()
    assert 30 == await health.failed("HTTP 429", 30.0)
    await clock.tick(-HOUR)
    assert Gate(30.0) == await make().gate()
    await clock.tick(10_000)
    assert Gate(20.0) == await make().gate()
    await clock.tick(20_000)
    assert (await health.gate()).probe


async def test_a_clock_that_is_set_back_ends_a_probe_and_a_hold_in_their_time(make, clock):
    health = make()
    await put_on_hold(health)
    await clock.tick(int(FIRST_PROBE_SECONDS * 1000))
    assert (await health.gate()).probe
    await clock.tick(-HOUR)
    assert not (await make().gate()).probe
    await clock.tick(LEASE_MS)  # the prober is gone
    assert (await make().gate()).probe


async def test_a_success_from_before_the_clock_was_set_back_speaks_no_longer_than_otherwise(make, clock):
    health = make()
    await health.succeeded()
    await clock.tick(-HOUR)
    await make().gate()
    await clock.tick(int(SUCCESS_SPEAKS_SECONDS * 1000) + 1)
    await put_on_hold(make())


async def test_a_worker_forgets_a_success_that_its_clock_has_not_reached(make, monkeypatch):
    health = make()
    health.taken()
    before = health.last_success_ms
    monkeypatch.setattr(time, "time", lambda: before / 1000 - 3600)
    await health.refused("message", "HTTP 401")
    assert before - HOUR == health.last_success_ms


# paused by an operator


async def pause(lanes, reason: str = "") -> None:
    await lanes.run("health", [health_module.health_key("crm")], ["pause", reason])


async def resume(lanes) -> None:
    await lanes.run("health", [health_module.health_key("crm")], ["resume"])


async def test_while_it_is_paused_nothing_is_tried_not_even_a_probe(make, lanes, clock):
    health = make()
    await health.failed("HTTP 503", 1.0)
    await pause(lanes, "they move house")
    await clock.tick(HOUR)
    gate = await health.gate()
    assert (True, "") == (gate.wait > 0, gate.probe)
    assert ("paused", "paused: they move house") == (health.state, health.reason)


async def test_a_worker_learns_of_a_pause_within_a_second(make, lanes):
    health = make()
    assert not await health.is_paused()
    await pause(lanes)
    assert not await health.is_paused()
    health._fresh_until -= FRESH_SECONDS
    assert await health.is_paused()
    assert "paused" == health.reason
    await resume(lanes)
    health._fresh_until -= FRESH_SECONDS
    assert not await health.is_paused()


async def test_after_a_pause_a_destination_that_was_away_is_probed_at_once(make, lanes):
    health = make()
    await put_on_hold(health)
    await pause(lanes)
    await resume(lanes)
    assert (await health.gate()).probe
    assert "hold" == health.state


async def test_what_ends_during_a_pause_changes_nothing_of_it(make, lanes, redis):
    health = make()
    await health.failed("HTTP 503", 1.0)
    await pause(lanes, "why")
    await health.succeeded()
    await health.failed("HTTP 500")
    await health.probe_soon()
    assert "paused" == health.state
    assert 0.0 == (await health.refused("m1", "HTTP 401"))[0]


async def test_a_pause_begins_with_the_first_and_has_the_last_reason(clock, lanes, redis):
    await pause(lanes, "first")
    began = clock.ms
    await clock.tick(1000)
    await pause(lanes, "second")
    stored = await redis.hgetall(health_module.health_key("crm"))
    assert (str(began).encode(), b"second") == (stored[b"paused"], stored[b"pause_reason"])
    await clock.tick(-HOUR)
    await lanes.run("health", [health_module.health_key("crm")], ["gate", 0])
    assert clock.ms >= int(await redis.hget(health_module.health_key("crm"), "paused"))


async def test_while_redis_is_away_what_was_seen_last_holds(make, lanes, monkeypatch):
    health = make()
    await pause(lanes)
    assert await health.is_paused()

    async def away(*_):
        raise ConnectionError("away")

    monkeypatch.setattr(lanes, "run", away)
    health._fresh_until -= FRESH_SECONDS
    assert await health.is_paused()
