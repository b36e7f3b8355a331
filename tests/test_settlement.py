"""Settlements: what becomes of each delivery after its attempt, in one step."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from deliver_kit import Post, Sink
from eventrouter import health as health_module
from eventrouter import poison
from eventrouter import settlement as settlement_module
from eventrouter.builtin.webhook import Webhook
from eventrouter.errors import Reject, Retry
from eventrouter.events import lane_key
from eventrouter.lane import FencedError
from eventrouter.settlement import Settlement
from eventrouter.target import Counts, Policy
from eventrouter.verdict import Bug, Verdict
from lane_kit import counts, lags, make_due, retries, take


class Case:
    """A turn with deliveries in hand, and their settlement."""

    def __init__(self, post: Post) -> None:
        self.post = post
        self.hands: dict[str, object] = {}

    async def begin(self, *ids):
        await self.post.put(*ids)
        self.turn = await take(self.post.lanes, self.post.claims.pop())
        await self.read()
        return self

    async def read(self):
        batch = await self.turn.read()
        hands = [self.post.target.decode(item, "crm") for item in batch.items]
        self.hands = {hand.messages[0].message_id: hand for hand in hands}
        return list(self.hands)

    def verdict(self, delivered="", failed=(), whole=None, outlived=0):
        return Verdict(
            outlived=outlived,
            delivered=[self.hands[one] for one in delivered],
            failed=[(self.hands[one], why) for one, why in dict(failed).items()],
            whole=whole,
        )

    async def settle(self, delivered="", failed=(), whole=None, pins=None, siblings="", crowded=False):
        return await self.settle_all([self.verdict(delivered, failed, whole)], pins, siblings, crowded)

    async def settle_all(self, verdicts, pins=None, siblings="", crowded=False):
        settlement = Settlement(self.post.target, crowded=crowded)
        for verdict in verdicts:
            settlement.add(verdict, pins)
        rest = [self.hands[one] for one in siblings]
        done = [hand for one in verdicts for hand in (*one.delivered, *(hand for hand, _ in one.failed))]
        self.parked = await settlement.apply(self.turn, lambda key: [hand for hand in rest if hand.key == key], done)
        self.wait, self.crowded = settlement.wait, settlement.crowded
        return self.parked

    async def due(self, *names):
        """Lets these keys be due, and reads them."""
        for name in names:
            await make_due(self.post.redis, self.post.lane, lane_key(name))
        return await self.read()


@pytest.fixture
async def post(redis, monkeypatch):
    monkeypatch.setattr(health_module, "HOLD_SECONDS", 300.0)
    one = Post(redis, Sink(), max_attempts=3, initial=10.0, max_interval=60.0, secrets=("s3cr3t",))
    yield one
    await one.sink.close()


@pytest.fixture
def case(post):
    return Case(post)


def keys(*names: str) -> set[str]:
    return {lane_key(name) for name in names}


async def test_what_is_delivered_and_what_is_dead_leaves_the_lane_and_is_counted(case, redis):
    await case.begin("a", "b", "c")
    await case.settle("a", {"b": Reject("bad", status=400)})
    assert {"to:crm": 3, "delivered:crm": 1, "dead:crm:permanent": 1, "to:warehouse": 1} == await counts(redis)
    assert ["c"] == await case.read()
    assert case.wait is None


async def test_how_long_what_is_delivered_was_in_its_lane_is_counted_in_the_same_step(case, redis):
    await case.begin("a", "b", "c")
    case.hands["a"].item.id = f"{int(case.hands['b'].item.id.partition('-')[0]) - 40_000}-0"
    await case.settle("ab", {"c": Reject("bad", status=400)})
    found = await lags(redis)
    assert 2 == sum(found.values())
    assert 1 == found["lag:crm:60.0"]


async def test_records_that_nobody_can_read_are_counted_in_the_same_step(case, redis):
    await case.begin("a", "b", "c")
    case.hands["a"].unreadable, case.hands["b"].unreadable, case.hands["c"].unreadable = 2, 1, 1
    await case.settle("ab", {"c": Retry("away")})
    assert {"to:crm": 3, "delivered:crm": 2, "crm:unreadable": 3} == await counts(redis)


async def test_a_dead_letter_reaches_the_warehouses_lane_without_secrets(case, redis):
    await case.begin("a")
    await case.settle("", {"a": Reject("no s3cr3t", status=422, response="you sent s3cr3t")})
    [letter] = await case.post.letters()
    assert ("no **********", "you sent **********", 422, '{"n":"a"}', 1) == (
        letter.reason,
        letter.response,
        letter.status,
        letter.payload,
        letter.attempts,
    )
    assert letter.first_at == letter.last_at


async def test_what_was_sent_comes_back_in_a_dead_letter_without_the_secrets_of_the_options(redis):
    options = Webhook.Options(
        url="https://hooks.example/services/T0/B0/SECRET", headers={"Authorization": "Bearer abc.def-1"}
    )
    options.note_variables(["https://hooks.example/services/T0/B0/SECRET"])
    post = Post(redis, Webhook(options), secrets=None)
    case = await Case(post).begin("a")
    echo = "x" * 1990 + "invalid key abc.def-1 at /services/T0/B0/SECRET"
    await case.settle("", {"a": Reject("no abc.def-1", status=400, response=echo[10:])})
    [letter] = await post.letters()
    assert ("no **********", "x" * 1980 + "invalid key ********") == (letter.reason, letter.response)
    await post.sink.close()


async def test_a_dead_letter_holds_the_beginning_of_the_answer_and_the_end_of_the_traceback(case):
    await case.begin("a", "b")
    case.hands["b"].tries.attempts = 2
    await case.settle(
        "", {"a": Reject("no", status=422, response="begin" + "x" * 5000), "b": Bug(KeyError("x" * 5000 + "end"))}
    )
    answered, bug = await case.post.letters()
    assert (2000, "begin") == (len(answered.response), answered.response[:5])
    assert (4000, "end'") == (len(bug.traceback.rstrip()) + 1, bug.traceback.rstrip()[-4:])


async def test_a_dead_letter_that_could_not_be_read_again_is_cut_down_to_what_can(case):
    await case.begin("a", "b")
    case.hands["a"].delivery.name = 5
    await case.settle("", {"a": Reject("bad", status=400), "b": Reject("bad", status=400)})
    first, second = await case.post.letters()
    assert ("a", "bad", "permanent", None, None) == (
        first.message_id,
        first.reason,
        first.class_,
        first.event_name,
        first.payload,
    )
    assert ("b", "Order Completed", '{"n":"b"}') == (second.message_id, second.event_name, second.payload)


async def test_a_lane_that_gets_dead_letters_is_served(case):
    enqueued = []

    async def enqueue(claims):
        enqueued.extend(claims)

    object.__setattr__(case.post.target, "enqueue", enqueue)
    await case.begin("a")
    await case.settle("", {"a": Reject("bad", status=400)})
    assert ["warehouse"] == [claim.lane.name for claim in enqueued]


async def test_a_retry_parks_its_key_with_what_else_of_it_is_in_hand(case, redis):
    await case.begin(("a1", "a"), ("b1", "b"), ("a2", "a"))
    assert keys("a") == await case.settle(["b1"], {"a1": Retry("later")}, siblings=["a2"])
    assert [] == await case.read()
    await make_due(redis, case.post.lane, lane_key("a"))
    assert ["a1", "a2"] == await case.read()
    assert (1, 1) == (case.hands["a1"].tries.attempts, case.hands["a1"].tries.made)
    assert case.hands["a1"].tries.first_ms == case.hands["a1"].tries.last_ms > 0


async def test_an_attempt_counts_only_when_others_succeed(case, redis):
    await case.begin("a")
    for made, attempts in ((1, 1), (2, 1), (3, 1)):
        await case.settle("", {"a": Retry("later")})
        await make_due(redis, case.post.lane, lane_key("a"))
        await case.read()
        assert (made, attempts) == (case.hands["a"].tries.made, case.hands["a"].tries.attempts)
    case.hands["a"].tries.last_ms -= 10
    case.post.health.taken()
    await case.settle("", {"a": Retry("later")})
    await make_due(redis, case.post.lane, lane_key("a"))
    await case.read()
    assert 2 == case.hands["a"].tries.attempts


async def test_it_is_dead_after_its_attempts(case, redis):
    await case.begin("a")
    case.hands["a"].tries.attempts = 2
    case.hands["a"].tries.last_ms = 1
    case.post.health.taken()
    await case.settle("", {"a": Retry("HTTP 500")})
    assert 1 == (await counts(redis))["dead:crm:attempts"]


async def test_every_attempt_of_a_bug_counts(case, redis):
    await case.begin("a")
    for _ in range(3):
        await case.settle("", {"a": Bug(KeyError("x"))})
        await make_due(redis, case.post.lane, lane_key("a"))
        await case.read()
    assert 1 == (await counts(redis))["dead:crm:plugin_bug"]
    [letter] = await case.post.letters()
    assert "KeyError" in letter.traceback


async def test_a_retry_after_is_kept_to(case, redis):
    await case.begin("a")
    await case.settle("", {"a": Retry("later", after=500)})
    batch = await case.turn.read()
    assert 490_000 < batch.next_due_ms - batch.now_ms <= 500_000


async def test_no_wait_is_longer_than_until_the_delivery_is_too_old(case):
    case.post.target = replace(case.post.target, policy=Policy(max_age=400.0))
    await case.begin("a")
    await case.settle("", {"a": Retry("later", after=86_400)})
    batch = await case.turn.read()
    assert 390_000 < batch.next_due_ms - batch.now_ms <= 401_000


async def test_a_failure_of_the_whole_makes_all_wait_and_leaves_the_items_alone(case, redis):
    await case.begin("a", "b")
    await case.settle("a", whole=Retry("HTTP 503", after=20))
    assert (20, set()) == (case.wait, case.parked)
    assert ["b"] == await case.read()
    assert {"to:crm": 2, "delivered:crm": 1} == await counts(redis)


async def test_a_culprit_may_be_parked_while_the_whole_waits(case):
    await case.begin("a")
    why = Retry("HTTP 500")
    assert keys("a") == await case.settle("", {"a": why}, whole=why)
    assert case.wait is not None


async def test_a_pinned_batch_that_ended_is_pinned_no_more(case):
    await case.begin("a", "b")
    await case.turn.pin("batch", [hand.item for hand in case.hands.values()])
    await case.settle("ab", pins={"batch": []})
    assert {} == case.turn.pins


async def test_two_of_one_key_that_fail_together_both_keep_what_is_noted_of_them(case):
    await case.begin(("a1", "a"), ("a2", "a"))
    await case.settle("", {"a1": Retry("later"), "a2": Retry("later")})
    assert ["a1", "a2"] == await case.due("a")
    assert [1, 1] == [case.hands[one].tries.made for one in ("a1", "a2")]
    await case.settle("", {"a1": Bug(KeyError("x")), "a2": Bug(KeyError("x"))})
    await case.due("a")
    assert [(2, 2), (2, 2)] == [(case.hands[one].tries.made, case.hands[one].tries.attempts) for one in ("a1", "a2")]


async def test_what_else_of_a_key_is_in_hand_keeps_what_was_noted_of_it(case):
    await case.begin(("a1", "a"), ("a2", "a"))
    await case.settle("", {"a1": Retry("later"), "a2": Retry("later")})
    await case.due("a")
    await case.settle("", {"a1": Retry("later")}, siblings=["a2"])
    await case.due("a")
    assert [2, 1] == [case.hands[one].tries.made for one in ("a1", "a2")]


async def test_of_a_parked_key_the_rest_is_due_when_nothing_of_it_is_in_hand(case):
    await case.begin(("a1", "a"), ("a2", "a"), ("a3", "a"))
    await case.settle("", {"a1": Retry("later")}, siblings=["a2", "a3"])
    await case.due("a")
    hands = dict(case.hands)
    await case.settle(["a1"], siblings=["a2", "a3"])
    assert [] == await case.read()
    case.hands = hands
    await case.settle(["a2"])
    assert ["a3"] == await case.read()


# refusals that may be meant for all

WRONG_KEY = Reject("HTTP 401", status=401)
NOT_FOUND = Reject("HTTP 404", status=404)


async def test_a_first_refusal_of_that_kind_waits_for_a_second_opinion(case):
    await case.begin("a")
    assert keys("a") == await case.settle("", {"a": WRONG_KEY})
    assert case.wait is None


async def test_a_second_one_of_another_message_puts_the_destination_on_hold_and_burns_nothing(case, redis):
    await case.begin("a", "b")
    await case.settle("", {"a": WRONG_KEY})
    assert keys("b") == await case.settle("", {"b": WRONG_KEY})
    assert (10.0, "hold") == (case.wait, case.post.health.state)
    assert ["a", "b"] == await case.due("a", "b")
    assert [(1, 0), (1, 0)] == [(hand.tries.made, hand.tries.attempts) for hand in case.hands.values()]
    assert {"to:crm": 2} == await counts(redis)


async def test_soon_after_a_success_it_takes_five(case, redis):
    await case.begin(*"abcdef")
    await case.settle("f")
    await case.settle("", dict.fromkeys("abcd", WRONG_KEY))
    assert (None, "") == (case.wait, case.post.health.state)
    await case.settle("", {"e": WRONG_KEY})
    assert (10.0, "hold") == (case.wait, case.post.health.state)


async def test_what_is_refused_after_the_hold_began_asks_no_more(case, redis):
    await case.begin(*"abcdef")
    await case.settle("", dict.fromkeys("abcdef", WRONG_KEY))
    assert 10.0 == case.wait
    assert b"2" == await redis.hget("er:{dest:crm}:health", "refusals")


async def test_the_same_message_again_and_again_is_at_fault_itself(case, redis):
    await case.begin("a")
    for _ in range(settlement_module.SUSPECT_TRIES):
        await case.settle("", {"a": NOT_FOUND})
        await case.due("a")
    assert 1 == (await counts(redis))["dead:crm:permanent"]


async def test_beside_what_is_taken_it_is_tried_once_more_before_it_is_dead(case, redis):
    await case.begin("a", "b", "c")
    assert keys("b") == await case.settle("a", {"b": NOT_FOUND})
    assert ["b", "c"] == await case.due("b")
    case.hands["b"].tries.refused_ms -= 10
    await case.settle("c", {"b": NOT_FOUND})
    assert {"to:crm": 3, "delivered:crm": 2, "dead:crm:permanent": 1, "to:warehouse": 1} == await counts(redis)
    assert (None, "") == (case.wait, case.post.health.state)


async def test_when_others_were_taken_after_it_the_second_refusal_is_enough(case, redis):
    await case.begin("a", "b", "c")
    case.post.health.taken()
    assert keys("a", "b") == await case.settle_all([case.verdict("c", {"a": NOT_FOUND, "b": NOT_FOUND}, outlived=1)])
    await case.due("a", "b")
    assert keys("b") == await case.settle("", {"a": NOT_FOUND, "b": NOT_FOUND})
    assert {"to:crm": 3, "delivered:crm": 1, "dead:crm:permanent": 1, "to:warehouse": 1} == await counts(redis)


async def test_a_success_of_another_attempt_that_ended_too_speaks_for_the_destination(case):
    await case.begin(*"abc")
    refused = [case.verdict("", {one: NOT_FOUND}) for one in "ab"]
    await case.settle_all([*refused, case.verdict("c")])
    assert (None, "") == (case.wait, case.post.health.state)


async def test_what_was_parked_by_other_failures_is_not_burnt_by_a_wrong_key(case, redis):
    await case.begin("a", "b")
    await case.settle("", {"a": Retry("HTTP 500", status=500)})
    await case.settle("b")  # others are taken in between
    await case.due("a")
    case.hands["a"].tries.last_ms -= 10
    assert keys("a") == await case.settle("", {"a": WRONG_KEY})
    assert {"to:crm": 2, "delivered:crm": 1} == await counts(redis)


async def test_a_final_refusal_shows_that_the_destination_answers(case):
    await case.begin("a", "b")
    await case.settle("", {"a": NOT_FOUND})
    await case.settle("", {"b": Reject("bad", status=400)})
    _, refusals = await case.post.health.refused("c", "HTTP 404")
    assert (1, False) == refusals


# bounds


async def test_too_many_parked_keys_are_the_destinations_failure_and_no_more_are_parked(case, redis, monkeypatch):
    monkeypatch.setattr(settlement_module, "MAX_PARKED_KEYS", 2)
    await case.begin("a", "b", "c")
    await case.settle("", {"a": Retry("x"), "b": Retry("x")})
    assert (None, True) == (case.wait, case.crowded)
    assert set() == await case.settle("", {"c": Retry("x")}, crowded=True)
    assert case.wait is not None
    assert "one by one" in case.post.health.reason
    assert 2 == await redis.zcard(f"{case.post.lane.key}:parked")
    assert ["c"] == await case.read()


async def test_what_is_parked_already_is_parked_again_also_when_there_are_too_many(case, redis):
    await case.begin("a")
    await case.settle("", {"a": Retry("x")})
    await case.due("a")
    assert keys("a") == await case.settle("", {"a": Retry("x")}, crowded=True)
    assert case.wait is None


async def test_what_is_dead_is_dead_also_when_there_are_too_many_parked_keys(case, redis):
    await case.begin("a")
    await case.settle("", {"a": Reject("bad", status=400)}, crowded=True)
    assert 1 == (await counts(redis))["dead:crm:permanent"]


# what is told


def counting(case, *taken):
    """The destination counted these, one after the other."""
    counted = list(taken)
    case.post.target = replace(case.post.target, counts=Counts(lambda: counted.pop(0) if counted else {}))


async def test_what_the_destination_counted_is_added_once_to_the_counters(case, redis):
    counting(case, {"warehouse:late_duplicates": 3})
    await case.begin("a", "b")
    await case.settle("a")
    await case.settle("b")
    assert {"to:crm": 2, "delivered:crm": 2, "warehouse:late_duplicates": 3} == await counts(redis)


async def test_what_the_destination_counted_is_kept_by_the_next_settlement_when_one_is_fenced_off(case, redis):
    counting(case, {"warehouse:late_duplicates": 3}, {"warehouse:late_duplicates": 2, "warehouse:discarded": 1})
    await case.begin("a")
    [claim], _ = await case.post.lanes.sweep(0, everything=True)
    present = await take(case.post.lanes, claim)
    with pytest.raises(FencedError):
        await case.settle("a")
    assert {"to:crm": 1} == await counts(redis)
    case.turn = present
    await case.settle("a")
    told = {"warehouse:late_duplicates": 5, "warehouse:discarded": 1}
    assert {"to:crm": 1, "delivered:crm": 1, **told} == await counts(redis)


async def test_what_the_destination_counted_is_kept_once_redis_is_back(case, redis, monkeypatch):
    counting(case, {"warehouse:refused": 3})
    await case.begin("a")

    async def away(*_):
        raise RedisConnectionError("away")

    with monkeypatch.context() as patch:
        patch.setattr(case.turn.lanes, "run", away)
        with pytest.raises(RedisConnectionError):
            await case.settle("a")
    await case.settle("a")
    assert {"to:crm": 1, "delivered:crm": 1, "warehouse:refused": 3} == await counts(redis)


async def test_what_was_kept_is_not_counted_again_when_claims_can_not_be_handed_on(case, redis):
    counting(case, {"warehouse:refused": 3})
    await case.begin("a", "b")

    async def away(_):
        raise RedisConnectionError("away")

    case.post.target = replace(case.post.target, enqueue=away)
    with pytest.raises(RedisConnectionError):
        await case.settle("", {"a": Reject("bad", status=400)})
    await case.settle("b")
    assert 3 == (await counts(redis))["warehouse:refused"]


async def test_dead_letters_are_told_to_the_hook(case):
    await case.begin("a")
    await case.settle("", {"a": Reject("bad", status=400)})
    assert [("web", "a", "crm", "bad")] == [
        (one.source, one.message_id, one.destination, one.reason) for one in case.post.dropped
    ]


async def test_failures_that_are_tried_again_are_counted_by_status_and_their_reason_is_kept(case, redis):
    await case.begin(*"abcdef")
    failures = {
        "a": Retry("busy s3cr3t", status=503),
        "b": Retry("no answer"),
        "c": Bug(KeyError("x")),
        "d": Retry("odd", status=70_000),
        "e": Reject("bad", status=400),
    }
    await case.settle("f", failures)
    assert {f"crm:{status}": 1 for status in ("503", "none", "bug", "other")} == await retries(redis)
    await case.due(*"abcd")
    assert ["busy **********", "no answer", "KeyError: 'x'", "odd"] == [case.hands[one].tries.reason for one in "abcd"]
    assert b"odd" == await redis.hget("er:{dest:crm}:health", "retry_reason")


async def test_a_failure_of_the_whole_is_counted_too(case, redis):
    await case.begin("a", "b")
    await case.settle("", whole=Retry("HTTP 429", status=429))
    assert {"crm:429": 1} == await retries(redis)
    assert None is await redis.hget("er:{dest:crm}:health", "retry_reason")


# batches that fail as a whole


async def failed_together(case, names, **fields):
    hands = [case.hands[one] for one in names]
    for hand in hands:
        hand.tries.together = 1
        hand.note_tries()
    return await case.settle_all([Verdict(untried=hands, together=hands, **fields)])


async def test_what_is_known_of_a_batch_that_failed_stays_with_its_deliveries_until_they_are_taken(case, redis):
    await case.begin("a", "b", "c")
    await failed_together(case, "ab", whole=Retry("HTTP 500", status=500))
    await case.read()
    assert {"a": 1, "b": 1, "c": 0} == {name: hand.tries.together for name, hand in case.hands.items()}
    await case.settle("ab", {"c": Reject("bad", status=400)})
    assert {} == await redis.hgetall(f"{case.post.lane.key}:tries")


async def test_the_destination_backs_off_when_a_batch_fails(case):
    await case.begin("a", "b")
    await failed_together(case, "ab", whole=Retry("HTTP 500", status=500))
    assert ("backoff", True) == (case.post.health.state, case.wait > 0)


async def test_while_others_are_taken_only_the_lane_of_the_batch_waits(case, redis):
    await case.begin("a", "b")
    await failed_together(case, "ab", whole=Retry("HTTP 500", status=500), despite=True)
    assert ("", True) == (case.post.health.state, case.wait > 0)
    assert ({"crm:500": 1}, b"HTTP 500") == (
        await retries(redis),
        await redis.hget("er:{dest:crm}:health", "retry_reason"),
    )


@pytest.mark.parametrize("state", ["", "backoff"])
async def test_a_503_is_the_destinations_also_while_others_are_taken_and_so_is_any_failure_of_a_probe(case, state):
    await case.begin("a", "b")
    if state:
        await case.post.health.failed("away", 0.001)
    failure = Retry("busy", status=500 if state else 503, everyone=not state)
    await failed_together(case, "ab", whole=failure, despite=True)
    assert ("backoff", True) == (case.post.health.state, case.wait > 0)


async def test_when_a_suspected_part_fails_nobody_waits(case, redis):
    await case.begin("a", "b")
    await failed_together(case, "ab", spoilt=Retry("HTTP 500", status=500), careful=True)
    assert ("", None) == (case.post.health.state, case.wait)
    assert {"crm:500": 1} == await retries(redis)


async def test_that_a_batch_was_refused_and_could_not_be_searched_stays_with_its_deliveries(case):
    await case.begin("a", "b")
    hands = list(case.hands.values())
    poison.suspect(hands)
    await case.settle_all([Verdict(untried=hands, refused=hands)])
    await case.read()
    assert [True, True] == [hand.tries.suspected for hand in case.hands.values()]


async def test_what_is_noted_of_the_tries_is_json(case, redis):
    await case.begin("a")
    await case.settle("", {"a": Retry("later")})
    [stored] = (await redis.hgetall(f"{case.post.lane.key}:tries")).values()
    assert {"attempts", "made", "first_ms", "last_ms", "reason"} == set(msgspec.json.decode(stored))


async def test_what_was_taken_is_settled_where_nobody_can_be_told_that_all_is_well(case, redis, monkeypatch):
    async def away(**_):
        raise ConnectionError("another node")

    await case.begin("a")
    monkeypatch.setattr(case.post.health, "succeeded", away)
    await case.settle("a")
    assert 1 == (await counts(redis))["delivered:crm"]
