"""errors.py: every error says what was wrong, where, and what to do."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import pytest

from eventrouter.errors import (
    MAX_TEXT,
    MAX_TOLD,
    ConfigError,
    EventRouterError,
    Problem,
    Reject,
    Retry,
    UnavailableError,
    first_of,
    is_cancellation,
    plain,
)


def test_a_problem_shows_its_place_its_line_with_a_caret_and_a_hint() -> None:
    problem = Problem(
        "routes.yaml", 15, 17, "`when` is not a valid expression", "compare with ==", "    when: event = 1"
    )
    assert str(problem) == (
        "routes.yaml:15:17: `when` is not a valid expression\n"
        "15|     when: event = 1\n"
        "  |                 ^\n"
        "  = hint: compare with =="
    )


def test_a_problem_of_the_whole_file_shows_no_line() -> None:
    assert str(Problem("routes.yaml", 0, 0, "there is no such file", "give its path")) == (
        "routes.yaml: there is no such file\n  = hint: give its path"
    )


def test_a_config_error_tells_all_its_problems_in_order() -> None:
    problems = [Problem("a", 1, 1, "first"), Problem("a", 2, 1, "second")]
    error = ConfigError(problems)
    assert str(error) == "a:1:1: first\na:2:1: second"
    assert error.problems == problems


def test_of_many_problems_the_first_are_told_and_errors_before_warnings() -> None:
    warnings = [Problem("a", line, 1, "look", severity="warning") for line in range(1, MAX_TOLD)]
    errors = [Problem("a", line, 1, "wrong") for line in range(MAX_TOLD, MAX_TOLD + 3)]
    told = str(ConfigError([*warnings, *errors])).splitlines()
    assert (len(told), told[:3], told[3]) == (MAX_TOLD + 1, list(map(str, errors)), "a:1:1: warning: look")
    assert told[-1] == "… and 2 more"
    assert first_of(warnings) == warnings


def test_an_error_carries_its_advice() -> None:
    assert EventRouterError("no", hint="do this").hint == "do this"
    assert EventRouterError("no").hint == ""


def test_an_unavailable_service_says_when_to_come_back() -> None:
    assert UnavailableError("full", retry_after=5.0).retry_after == 5.0


def test_retry_and_reject_keep_what_was_answered() -> None:
    retry = Retry("HTTP 503", after=2.0, status=503, response="x" * 3000, everyone=True)
    assert ("HTTP 503", "HTTP 503", 2.0, 503, "x" * 3000, True) == (
        str(retry),
        retry.reason,
        retry.after,
        retry.status,
        retry.response,
        retry.everyone,
    )
    reject = Reject("HTTP 400", status=400, response="bad")
    assert ("HTTP 400", 400, "bad", False) == (reject.reason, reject.status, reject.response, reject.everyone)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("400", 400),
        (" 503 ", 503),
        (HTTPStatus.NOT_FOUND, 404),
        (400.0, 400),
        ("E_BUSY", None),
        ("٤٠٤", None),
        (True, None),
        ([400], None),
        (float("nan"), None),
        (10**30, None),
        (-1, None),
        (None, None),
    ],
)
def test_a_status_is_a_number_or_none_whatever_a_plugin_gives(given: Any, kept: int | None) -> None:
    for error in (Retry("x", status=given), Reject("x", status=given)):
        assert (kept, kept is None or type(error.status) is int) == (error.status, True)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (7, 7.0),
        ("7", 7.0),
        (0, 0.0),
        (-5, 0.0),
        (float("inf"), 86_400.0),
        (1e300, 86_400.0),
        (10**400, 86_400.0),
        (float("nan"), None),
        ("soon", None),
        (timedelta(seconds=5), None),
        (None, None),
    ],
)
def test_a_time_to_wait_is_between_nothing_and_a_day_or_none(given: Any, kept: float | None) -> None:
    assert kept == Retry("x", after=given).after


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("caf\u00e9", "caf\u00e9"),
        (b"caf\xc3\xa9 \xff", "caf\u00e9 \ufffd"),
        ("a\ud800b", "a\ufffdb"),
        (None, ""),
        ({"error": 5}, "{'error': 5}"),
        ("x" * 10**6, "x" * MAX_TEXT),
    ],
)
def test_reasons_and_answers_are_texts_that_can_be_stored_and_are_bounded(given: Any, kept: str) -> None:
    error = Reject(given, response=given)
    assert (kept, kept, kept) == (error.reason, error.response, str(error))


def test_everyone_is_true_or_false() -> None:
    assert [True, False] == [Retry("x", everyone=1).everyone, Reject("x", everyone=None).everyone]  # type: ignore[arg-type]


class Careless(Retry):
    """A plugin's own kind of `Retry`, which leaves everything out that `Retry` sets."""

    def __init__(self, code: str) -> None:
        self.code = code


def test_plain_makes_our_own_of_whatever_a_plugin_made_of_them() -> None:
    changed = Reject("x", status=400)
    changed.status = "401"  # type: ignore[assignment]
    changed.response = None  # type: ignore[assignment]
    found = plain(changed)
    assert (Reject, "x", 401, "") == (type(found), found.reason, found.status, found.response)
    late = Retry("x")
    late.after = float("inf")
    found = plain(late)
    assert (Retry, 86_400.0) == (type(found), found.after if isinstance(found, Retry) else None)
    found = plain(Careless("busy"))
    assert (Retry, "busy", None) == (type(found), found.reason, found.status)


async def _met(error: BaseException) -> bool:
    try:
        raise error
    except BaseException as met:
        return is_cancellation(met)


async def test_what_a_plugin_raises_is_no_cancellation_whatever_it_is() -> None:
    raised = [asyncio.CancelledError(), SystemExit(3), KeyboardInterrupt(), BaseExceptionGroup("x", [SystemExit()])]
    assert [False] * 4 == [await _met(error) for error in raised]


async def test_a_cancellation_from_without_is_one() -> None:
    async def sleep() -> bool:
        try:
            await asyncio.sleep(30)
        except BaseException as met:
            return is_cancellation(met)
        return False

    task = asyncio.create_task(sleep())
    await asyncio.sleep(0)
    task.cancel()
    assert await task
