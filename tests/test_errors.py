"""errors.py: every error says what was wrong, where, and what to do."""

from __future__ import annotations

from eventrouter.errors import ConfigError, EventRouterError, Problem, Reject, Retry, UnavailableError


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


def test_an_error_carries_its_advice() -> None:
    assert EventRouterError("no", hint="do this").hint == "do this"
    assert EventRouterError("no").hint == ""


def test_an_unavailable_service_says_when_to_come_back() -> None:
    assert UnavailableError("full", retry_after=5.0).retry_after == 5.0


def test_retry_and_reject_keep_what_was_answered_cut_at_2000_characters() -> None:
    retry = Retry("HTTP 503", after=2.0, status=503, response="x" * 3000, everyone=True)
    assert (str(retry), retry.after, retry.status, len(retry.response), retry.everyone) == (
        "HTTP 503",
        2.0,
        503,
        2000,
        True,
    )
    reject = Reject("HTTP 400", status=400, response="bad")
    assert (reject.reason, reject.status, reject.response) == ("HTTP 400", 400, "bad")
