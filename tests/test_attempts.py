"""Attempts: what a plugin's answer means for each delivery, and the search for the one at fault."""

from __future__ import annotations

import asyncio
import sys
from itertools import pairwise

import pytest
from pydantic import BaseModel, SecretBytes, SecretStr

from deliver_kit import Sink, hand_of
from eventrouter import attempts as attempts_module
from eventrouter.attempts import DOUBTFUL, OPINIONS, Attempts, secrets_of
from eventrouter.deliver import TURN_SECONDS
from eventrouter.destination import MAX_TIMEOUT
from eventrouter.errors import Reject, Retry
from eventrouter.queue import JOB_SECONDS
from eventrouter.verdict import MISCONFIGURED, Bug, is_final


def ids(hands) -> list[str]:
    return [hand.messages[0].message_id for hand in hands]


async def attempt(answer, *messages, parts=(), alone=True, seconds=0.0, permit=None, careful=False, **options):
    """The verdict on messages (an id, or an id and a key), or on parts of them; the batches that were tried."""
    sink = Sink(answer, seconds)
    hands = [
        [hand_of(*(one if isinstance(one, tuple) else (one, one))) for one in part] for part in (parts or [messages])
    ]
    verdict = await Attempts(sink, options.pop("timeout", 5.0), **options).deliver(
        *hands, alone=lambda message_id, *, again: alone, permit=permit, careful=careful
    )
    await sink.close()
    return verdict, ["".join(batch) for batch in sink.batches]


def raising(error):
    def answer(messages):
        raise error

    return answer


def fails_behind(last, error):
    """Takes what comes up to the message id `last`; raises `error` for what comes behind."""

    def answer(messages):
        if messages[0].message_id > last:
            raise error

    return answer


@pytest.mark.parametrize("nothing", [None, {}])
async def test_an_answer_without_outcomes_means_that_all_were_taken(nothing):
    verdict, batches = await attempt(lambda _: nothing, *"abc")
    assert ("abc", ["abc"]) == ("".join(ids(verdict.delivered)), batches)
    assert ([], [], None) == (verdict.failed, verdict.untried, verdict.whole)


async def test_outcomes_are_told_by_message_id():
    verdict, _ = await attempt(lambda messages: {messages[1].id: Reject("bad"), messages[2].id: Retry("later")}, *"abc")
    assert ["a"] == ids(verdict.delivered)
    assert [("b", "bad"), ("c", "later")] == [
        (hand.messages[0].message_id, str(failure)) for hand, failure in verdict.failed
    ]


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ({"message-1": Reject("x")}, "no id of its messages"),
        ([Reject("x")], "list"),
        ({None: Retry("x")}, "no id of its messages"),
    ],
)
async def test_an_answer_that_cannot_be_understood_is_a_bug_and_never_counts_as_delivered(returned, told):
    verdict, _ = await attempt(lambda _: returned, "a")
    [(_, failure)] = verdict.failed
    assert (True, []) == (isinstance(failure, Bug), verdict.delivered)
    assert told in str(failure)


async def test_an_outcome_that_is_none_of_ours_is_a_bug():
    verdict, _ = await attempt(lambda messages: {messages[0].id: "refused"}, "a")
    [(_, failure)] = verdict.failed
    assert "str as an outcome" in str(failure)


@pytest.mark.parametrize("error", [Reject("no", status="400"), Retry("busy", status="503", after=float("inf"))])
async def test_a_status_as_text_and_a_wait_for_ever_are_put_right(error):
    error.status = str(error.status)  # as a plugin may set it
    verdict, _ = await attempt(lambda messages: {messages[0].id: error}, "a", "b")
    [(_, failure)] = verdict.failed
    assert (True, True) == (type(failure.status) is int, (getattr(failure, "after", None) or 0.0) <= 86_400)
    verdict, _ = await attempt(raising(error), "a")
    [(_, failure)] = verdict.failed
    assert (True, isinstance(error, Reject)) == (type(failure.status) is int, is_final(failure))


async def test_a_bug_can_be_stored_whatever_its_text():
    class Strange(Exception):
        def __str__(self):
            raise KeyError("x")

    for error in (ValueError("a\ud800b"), Strange(), ValueError("x" * 10**6)):
        verdict, _ = await attempt(raising(error), "a")
        [(_, failure)] = verdict.failed
        assert isinstance(failure, Bug)
        assert type(error).__name__ in str(failure)
        assert len((str(failure) + failure.text).encode()) < 200_000


# the whole batch


async def test_a_retry_of_the_whole_batch_is_the_destinations_and_splits_nothing():
    verdict, batches = await attempt(raising(Retry("HTTP 500", after=7)), *"abc")
    assert ("HTTP 500", 7, "abc", ["abc"]) == (
        str(verdict.whole),
        verdict.whole.after,
        "".join(ids(verdict.untried)),
        batches,
    )
    assert ["abc"] == ["".join(ids(part)) for part in verdict.repeat]


async def test_a_retry_of_one_is_its_own_while_that_may_be():
    verdict, _ = await attempt(raising(Retry("HTTP 500")), "a")
    assert (["a"], None) == (ids(hand for hand, _ in verdict.failed), verdict.whole)


async def test_a_retry_of_one_is_its_own_and_the_destinations_when_others_failed_too():
    verdict, _ = await attempt(raising(Retry("HTTP 500")), "a", alone=False)
    assert (["a"], "HTTP 500") == (ids(hand for hand, _ in verdict.failed), str(verdict.whole))


async def test_a_batch_of_which_each_is_to_be_retried_may_be_the_destinations_failure():
    def answer(messages):
        return {message.id: Retry("busy") for message in messages}

    verdict, _ = await attempt(answer, "a", "b", alone=False)
    assert (["a", "b"], "busy") == (ids(hand for hand, _ in verdict.failed), str(verdict.whole))
    verdict, _ = await attempt(answer, "a", "b", alone=True)
    assert verdict.whole is None


async def test_a_retry_for_everyone_is_never_blamed_on_the_delivery():
    verdict, _ = await attempt(raising(Retry("HTTP 429", everyone=True)), "a")
    assert ([], "HTTP 429", ["a"]) == (verdict.failed, str(verdict.whole), ids(verdict.untried))


@pytest.mark.parametrize(
    "error", [ConnectionRefusedError("refused"), ConnectionResetError(), OSError("no route"), TimeoutError()]
)
async def test_what_the_network_does_is_a_retry(error):
    verdict, _ = await attempt(raising(error), *"ab")
    assert isinstance(verdict.whole, Retry)
    assert isinstance(error, ConnectionError) == verdict.whole.everyone


async def test_an_attempt_ends_at_its_timeout():
    verdict, _ = await attempt(None, *"ab", seconds=30, timeout=0.02)
    assert "no answer within 0.02 s" == str(verdict.whole)


async def test_an_attempt_that_is_cancelled_is_no_failure():
    task = asyncio.create_task(attempt(None, "a", seconds=30))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_a_plugin_that_would_end_the_worker_or_the_turn_has_a_bug(error):
    verdict, _ = await attempt(raising(error), "a")
    [(_, failure)] = verdict.failed
    assert (True, True) == (isinstance(failure, Bug), type(error).__name__ in failure.text)
    assert f"{type(error).__name__}{': 3' if error.args else ''}" == str(failure)


async def test_an_exit_in_a_thread_of_the_plugin_is_its_bug():
    class Exits(Sink):
        async def deliver(self, messages):
            await asyncio.to_thread(sys.exit, 3)

    sink = Exits()
    verdict = await Attempts(sink, 5.0).deliver([hand_of("a")], alone=lambda: True)
    assert [Bug] == [type(failure) for _, failure in verdict.failed]
    await sink.close()


# splitting


async def test_a_refusal_of_the_whole_batch_is_split_down_to_the_one_at_fault():
    def answer(messages):
        if "f" in [message.message_id for message in messages]:
            raise Reject("bad", status=400)

    verdict, batches = await attempt(answer, *"abcdefgh")
    assert "abcdegh" == "".join(ids(verdict.delivered))
    assert ["f"] == ids(hand for hand, _ in verdict.failed)
    assert ["abcdefgh", "abcd", "efgh", "ef", "e", "f", "gh"] == batches


async def test_a_split_ends_when_the_destination_fails_as_a_whole():
    def answer(messages):
        if len(messages) == 4:
            raise Reject("bad", status=400)
        raise Retry("HTTP 503", everyone=True)

    verdict, batches = await attempt(answer, *"abcd")
    assert (["abcd", "ab"], "abcd", ["ab", "cd"]) == (
        batches,
        "".join(sorted(ids(verdict.untried))),
        ["".join(ids(part)) for part in verdict.repeat],
    )


async def test_what_is_left_of_a_batch_is_tried_in_its_parts():
    verdict, batches = await attempt(refusing("c"), parts=["ab", "cd", "e"])
    assert ["ab", "cd", "c", "d", "e"] == batches
    assert ("abde", []) == ("".join(ids(verdict.delivered)), verdict.repeat)


async def test_the_parts_behind_one_that_meets_a_destination_that_is_down_are_left_as_they_are():
    verdict, batches = await attempt(fails_behind("b", Retry("HTTP 503")), parts=["ab", "cd", "ef"])
    assert ["ab", "cd"] == batches
    assert ["cd", "ef"] == ["".join(ids(part)) for part in verdict.repeat]


# what is suspected of poison


@pytest.mark.parametrize(
    ("error", "noted"),
    [(Retry("HTTP 500"), "ab"), (Retry("HTTP 503", status=503, everyone=True), "ab"), (Retry("x", everyone=True), "")],
)
async def test_a_batch_that_fails_as_a_whole_is_told_when_that_may_be_its_own_fault(error, noted):
    verdict, _ = await attempt(raising(error), *"ab")
    assert (noted, error.reason, None) == ("".join(ids(verdict.together)), str(verdict.whole), verdict.spoilt)


async def test_of_a_suspected_batch_the_first_part_alone_is_tried():
    verdict, batches = await attempt(lambda _: None, parts=["ab", "cd", "e"], careful=True)
    assert (["ab"], "ab") == (batches, "".join(ids(verdict.delivered)))
    assert ["cd", "e"] == ["".join(ids(part)) for part in verdict.repeat]


async def test_the_failure_of_a_suspected_part_is_not_the_destinations():
    verdict, batches = await attempt(raising(Retry("HTTP 500")), parts=["ab", "cd"], careful=True)
    assert (["ab"], None, "HTTP 500") == (batches, verdict.whole, str(verdict.spoilt))
    assert ("ab", ["ab", "cd"]) == (
        "".join(ids(verdict.together)),
        ["".join(ids(part)) for part in verdict.repeat],
    )


async def test_a_suspected_delivery_that_is_alone_fails_by_itself_also_with_503_which_is_the_destinations_as_well():
    failure = Retry("HTTP 503", status=503, everyone=True)
    verdict, _ = await attempt(raising(failure), "a", careful=True)
    assert (["a"], "HTTP 503") == (ids(hand for hand, _ in verdict.failed), str(verdict.whole))
    verdict, _ = await attempt(raising(failure), "a")
    assert ([], ["a"]) == (verdict.failed, ids(verdict.together))


async def test_what_no_event_can_be_at_fault_for_is_the_destinations_in_any_case():
    verdict, _ = await attempt(raising(Retry("cannot connect", everyone=True)), "a", careful=True)
    assert ([], [], "cannot connect") == (verdict.failed, verdict.together, str(verdict.whole))


async def test_a_part_that_fails_within_a_suspected_one_that_was_refused_ends_the_search():
    def answer(messages):
        raise Reject("bad", status=400) if len(messages) == 4 else Retry("HTTP 500")

    verdict, batches = await attempt(answer, *"abcd", careful=True)
    assert (["abcd", "ab"], None, "HTTP 500") == (batches, verdict.whole, str(verdict.spoilt))


async def test_a_part_waits_for_the_sibling_of_another_part():
    def answer(messages):
        if messages[0].message_id == "a":
            raise Retry("busy")

    verdict, batches = await attempt(answer, parts=[[("a", "k")], [("b", "l"), ("c", "k")], "d"])
    assert ["a", "b", "d"] == batches
    assert ([], ["c"]) == (verdict.repeat, ids(verdict.untried))


async def test_what_becomes_another_batch_since_a_key_waits_is_not_tried_before_that_is_noted():
    def answer(messages):
        if len(messages) > 2:
            raise Reject("bad", status=400)
        if messages[0].message_id == "a":
            raise Retry("busy")

    parts = [[("a", "k")], [("b", "l"), ("c", "k")], [("d", "l"), ("e", "m")], [("f", "n")]]
    verdict, batches = await attempt(answer, parts=parts, pinned=True)
    assert ["a", "f"] == batches
    assert ["b", "de"] == ["".join(ids(part)) for part in verdict.repeat]
    assert ["c", "b", "d", "e"] == ids(verdict.untried)


async def test_nothing_of_a_key_is_tried_behind_a_sibling_that_waits():
    def answer(messages):
        if len(messages) > 1:
            raise Reject("too many", status=400)
        if messages[0].message_id == "a":
            raise Retry("later")

    verdict, batches = await attempt(answer, ("a", "k"), ("b", "l"), ("c", "k"), ("d", "l"))
    assert (["a"], ["c"], ["b", "d"]) == (
        ids(hand for hand, _ in verdict.failed),
        ids(verdict.untried),
        ids(verdict.delivered),
    )
    assert ["abcd", "ab", "a", "b", "d"] == batches


async def test_what_is_dead_holds_up_nothing_of_its_key():
    def answer(messages):
        if messages[0].message_id == "a":
            raise Reject("bad", status=400)

    verdict, _ = await attempt(answer, ("a", "k"), ("b", "k"))
    assert ["b"] == ids(verdict.delivered)


async def test_a_bug_is_searched_for_too_and_keeps_its_traceback():
    def answer(messages):
        if "b" in [message.message_id for message in messages]:
            raise KeyError("missing")

    verdict, _ = await attempt(answer, *"abc")
    [(hand, failure)] = verdict.failed
    assert ("b", "KeyError: 'missing'") == (hand.messages[0].message_id, str(failure))
    assert "in answer" in failure.text
    assert ["a", "c"] == ids(verdict.delivered)


# not for ever


def refusing(*ids, status=400):
    """Refuses every batch with one of these in it; without any, every batch."""

    def answer(messages):
        if not ids or not {message.message_id for message in messages}.isdisjoint(ids):
            raise Reject(f"HTTP {status}", status=status)

    return answer


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(1, count + 1)]


async def test_a_search_that_takes_long_ends_with_what_is_known(monkeypatch):
    monkeypatch.setattr(attempts_module, "PATIENCE_SECONDS", 0.0)  # one second at least
    verdict, batches = await attempt(refusing(), *numbers(1000), seconds=0.01)
    dead, rest = ids(hand for hand, _ in verdict.failed), ids(verdict.untried)
    assert (numbers(1000), None) == (dead + rest, verdict.whole)
    assert 10 < len(dead) < 200 > len(batches)


async def test_a_search_ends_when_something_is_known_and_soon_however_slow_the_destination_is(monkeypatch):
    monkeypatch.setattr(attempts_module, "PATIENCE_SECONDS", 0.0)
    verdict, batches = await attempt(refusing(), *numbers(16), seconds=0.4)
    assert ["".join(numbers(count)) for count in (16, 8, 4, 1)] == batches
    assert ["1"] == ids(hand for hand, _ in verdict.failed)
    assert numbers(16)[1:] == ids(verdict.untried)


def test_the_slowest_search_of_a_turn_ends_before_its_job():
    calls = 2  # one that says nothing, and one of a single delivery
    assert TURN_SECONDS + calls * MAX_TIMEOUT < JOB_SECONDS


async def test_before_each_call_it_is_asked_whether_so_many_messages_may_be_sent():
    asked = []

    async def permit(messages, until):
        asked.append((messages, until is None))
        return True

    _, batches = await attempt(refusing("6"), *numbers(8), permit=permit)
    first, *others = asked
    assert ((8, True), [(n, False) for n in (4, 4, 2, 1, 1, 2)], 7) == (first, others, len(batches))


async def test_without_a_permit_the_search_ends_and_the_rest_is_untried():
    left = [3]

    async def permit(messages, until):
        left[0] -= 1
        return left[0] >= 0

    verdict, batches = await attempt(refusing("8"), *numbers(8), permit=permit)
    assert (numbers(4), numbers(8)[4:], 3) == (ids(verdict.delivered), ids(verdict.untried), len(batches))
    assert ([], None, []) == (verdict.failed, verdict.whole, verdict.refused)


async def test_a_batch_that_was_refused_without_time_to_search_it_is_told(monkeypatch):
    asked = []

    async def permit(messages, until):
        asked.append(messages)
        return len(asked) < 3

    verdict, batches = await attempt(refusing("1", "2"), *numbers(4), permit=permit)
    assert ([numbers(4), numbers(4)[:2]], numbers(4)[:2]) == (
        [list(batch) for batch in batches],
        ids(verdict.refused),
    )
    asked.clear()
    verdict, _ = await attempt(refusing("1", "2"), *numbers(4), permit=permit, pinned=True)
    assert ([], [1, 1, 2]) == (verdict.refused, [len(part) for part in verdict.repeat])  # its parts are pinned


# refusals that may be meant for all


@pytest.mark.parametrize("status", sorted(MISCONFIGURED))
async def test_two_refusals_of_that_kind_end_the_search_and_a_few_others_are_asked(status):
    verdict, batches = await attempt(refusing(status=status), *numbers(100))
    assert 15 >= len(batches)
    assert (DOUBTFUL + OPINIONS, 100 - DOUBTFUL - OPINIONS) == (len(verdict.failed), len(verdict.untried))
    assert ([], None) == (verdict.delivered, verdict.whole)
    assert set(numbers(100)) == {*ids(hand for hand, _ in verdict.failed), *ids(verdict.untried)}
    apart = [int(batch) for batch in batches[-OPINIONS:]]
    assert all(10 < later - sooner for sooner, later in pairwise(apart))


async def test_an_answer_for_each_of_them_is_treated_likewise():
    verdict, batches = await attempt(
        lambda messages: {message.id: Reject("HTTP 401", status=401) for message in messages}, *"abcd"
    )
    assert (["abcd"], list("abcd")) == (batches, ids(hand for hand, _ in verdict.failed))


@pytest.mark.parametrize("status", sorted(MISCONFIGURED))
async def test_a_refusal_in_an_answer_that_took_others_is_final(status):
    verdict, _ = await attempt(lambda messages: {messages[1].id: Reject("no", status=status, response="x")}, *"abc")
    [(hand, failure)] = verdict.failed
    assert ("b", "no", status, "x", True) == (
        hand.messages[0].message_id,
        str(failure),
        failure.status,
        failure.response,
        is_final(failure),
    )
    assert ["a", "c"] == ids(verdict.delivered)


async def test_it_is_told_which_failed_before_others_were_taken():
    verdict, _ = await attempt(refusing("2", "5", "8", status=404), *numbers(8))
    assert (["2", "5", "8"], 2) == (ids(hand for hand, _ in verdict.failed), verdict.outlived)


async def test_one_of_the_others_that_is_taken_speaks_for_the_destination():
    verdict, batches = await attempt(refusing("1", "2", "5", status=404), *numbers(8))
    assert ["1", "2"] == ids(hand for hand, _ in verdict.failed)
    assert (["3"], ["12345678", "1234", "12", "1", "2", "3"]) == (ids(verdict.delivered), batches)
    assert numbers(8)[3:] == ids(verdict.untried)


async def test_an_others_own_failure_is_its_own_and_says_nothing():
    def answer(messages):
        mine = messages[0].message_id
        raise Reject("bad", status=400) if len(messages) == 1 and mine > "b" else Reject("HTTP 404", status=404)

    verdict, _ = await attempt(answer, *"abcde")
    assert [("a", 404), ("b", 404), ("c", 400), ("d", 400), ("e", 400)] == [
        (hand.messages[0].message_id, failure.status) for hand, failure in verdict.failed
    ]


async def test_an_other_may_find_the_destination_gone():
    def answer(messages):
        if messages[0].message_id > "b":
            raise ConnectionResetError
        raise Reject("HTTP 404", status=404)

    verdict, _ = await attempt(answer, *"abcd")
    assert isinstance(verdict.whole, Retry)
    assert (["a", "b"], ["c", "d"], []) == (
        ids(hand for hand, _ in verdict.failed),
        ids(verdict.untried),
        verdict.repeat,
    )


async def test_nobody_is_asked_whose_key_waits_and_nothing_of_a_key_before_its_sibling():
    keys = [("a", "k"), ("b", "l"), ("c", "k"), ("d", "m"), ("e", "m"), ("f", "l")]
    verdict, batches = await attempt(refusing("a", "b", "d", status=401), *keys)
    assert "d" == batches[-1]
    assert (["a", "b", "d"], ["c", "e", "f"]) == (
        ids(hand for hand, _ in verdict.failed),
        sorted(ids(verdict.untried)),
    )
    assert ["d"] == [batch for batch in batches if "d" in batch][-1:]


async def test_a_few_that_are_not_found_among_many_are_searched_out():
    culprits = ["2", "33", "34", "77", "90"]
    verdict, _ = await attempt(refusing(*culprits, status=404), *numbers(100))
    assert culprits == ids(hand for hand, _ in verdict.failed)
    assert 95 == len(verdict.delivered)


async def test_a_key_that_is_revoked_in_the_middle_of_a_search_ends_it():
    def answer(messages):
        mine = [int(message.message_id) for message in messages]
        if len(mine) == 100 or max(mine) > 25:
            raise Reject("HTTP 401", status=401)

    verdict, batches = await attempt(answer, *numbers(100))
    assert 25 <= len(verdict.delivered) + DOUBTFUL + OPINIONS and 20 > len(batches)
    assert DOUBTFUL + OPINIONS == len(verdict.failed)
    assert 100 == len(verdict.delivered) + len(verdict.failed) + len(verdict.untried)


# the warehouse


@pytest.mark.parametrize("error", [Reject("no"), ZeroDivisionError("bug"), Retry("away")])
async def test_the_warehouse_is_never_split_and_never_at_fault_for_one(error):
    verdict, batches = await attempt(raising(error), *"ab", lenient=False)
    assert (["ab"], "ab", []) == (batches, "".join(ids(verdict.untried)), verdict.failed)
    assert str(error).strip("'") in str(verdict.whole)


async def test_an_outcome_for_a_single_record_is_the_whole_warehouses():
    verdict, _ = await attempt(lambda messages: {messages[0].id: Reject("no")}, *"ab", lenient=False)
    assert ("no", ["b"], ["a"]) == (str(verdict.whole), ids(verdict.delivered), ids(verdict.untried))


# words


def test_secrets_are_found_however_deep_and_masked_longest_first():
    class Inner(BaseModel):
        key: SecretStr = SecretStr("s3cr3t")

    class Options(BaseModel):
        name: str = "public"
        inner: list[Inner] = [Inner()]
        more: dict[str, SecretStr] = {"x": SecretStr("s3cr3t-longer")}
        data: SecretBytes = SecretBytes(b"bytes-1")
        empty: SecretStr = SecretStr("")
        nothing: SecretBytes = SecretBytes(b"")

    secrets = secrets_of(Options())
    assert ["s3cr3t-longer", "bytes-1", "s3cr3t"] == [one for one in secrets if one == one.lower()]
    assert sorted(secrets, key=len, reverse=True) == list(secrets)
    attempts = Attempts(Sink, 1.0, secrets=secrets)  # type: ignore[arg-type]
    assert "********** and **********" == attempts.mask("s3cr3t-longer and bytes-1")
    assert "s3cr3t" not in repr(attempts)


async def test_secrets_stay_out_of_connection_errors():
    verdict, _ = await attempt(raising(ConnectionError("http://s3cr3t@host")), "a", secrets=("s3cr3t",))
    assert "ConnectionError: http://**********@host" == str(verdict.whole)
