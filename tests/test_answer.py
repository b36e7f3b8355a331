import json
from typing import Any

import pytest

from eventrouter.answer import SUCCESS, Answer, busy, cors_headers, failure, not_allowed, preflight, success


async def sent(answer: Answer, *more: tuple[bytes, bytes]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    await answer.send(send, more)
    return messages


async def test_success_is_what_every_client_knows() -> None:
    assert await sent(SUCCESS) == [
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/json"), (b"content-length", b"17")],
        },
        {"type": "http.response.body", "body": b'{"success": true}'},
    ]


def test_a_partial_success_lists_the_refused_events() -> None:
    assert json.loads(success([{"index": 1}]).body) == {"success": True, "rejected": [{"index": 1}]}


def test_a_failure_has_a_code_and_a_message() -> None:
    answer = failure(503, "unavailable", "later", (b"retry-after", b"3"))
    assert (answer.status, answer.headers[1]) == (503, (b"retry-after", b"3"))
    assert json.loads(answer.body) == {"success": False, "code": "unavailable", "message": "later"}


@pytest.mark.parametrize(("seconds", "after"), [(None, b"1"), (0.2, b"1"), (2.5, b"3")])
def test_who_is_too_early_is_told_when_to_come_again_and_scripts_may_read_it(
    seconds: float | None, after: bytes
) -> None:
    answer = busy(429, "rate_limited", "too many events", seconds)
    assert dict(answer.headers)[b"retry-after"] == after
    assert dict(answer.headers)[b"access-control-expose-headers"] == b"retry-after"
    assert (answer.status, json.loads(answer.body)["code"]) == (429, "rate_limited")


def test_a_wrong_method_is_told_the_right_ones() -> None:
    answer = not_allowed("send events by POST", b"POST, OPTIONS")
    assert (answer.status, dict(answer.headers)[b"allow"]) == (405, b"POST, OPTIONS")


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_a_body_has_no_length(status: int) -> None:
    [start, _] = await sent(Answer(status, b"", ()))
    assert start["headers"] == []


async def test_a_closing_answer_ends_the_connection() -> None:
    [start, _] = await sent(SUCCESS.closing(), (b"vary", b"origin"))
    assert start["headers"][1:] == [(b"connection", b"close"), (b"content-length", b"17"), (b"vary", b"origin")]


def test_a_page_of_any_origin_may_read_the_answer() -> None:
    assert dict(cors_headers(b"https://shop.example.com")) == {
        b"access-control-allow-origin": b"https://shop.example.com",
        b"access-control-allow-credentials": b"true",
        b"vary": b"origin",
    }


@pytest.mark.parametrize("origin", [b"", b"a\r\nset-cookie: x", b"\xff", b"x" * 301])
def test_what_is_no_origin_is_not_repeated(origin: bytes) -> None:
    assert cors_headers(origin) == ((b"vary", b"origin"),)


@pytest.mark.parametrize(
    ("requested", "more"),
    [
        (b"", b""),
        (b"Authorization, Content-Type", b""),
        (b"anonymousid,authorization,content-type,sentat", b""),
        (b"rsa-retry-attempt", b"rsa-retry-attempt"),
        (b"x\r\ny, ,,traceparent," + b"z" * 101, b"traceparent"),
    ],
)
async def test_a_preflight_names_every_header_that_a_client_asks_for(requested: bytes, more: bytes) -> None:
    answer = preflight(requested)
    named = {b"anonymousid", b"authorization", b"content-encoding", b"content-type", b"sentat", more} - {b""}
    assert set(dict(answer.headers)[b"access-control-allow-headers"].split(b", ")) == named
    [start, body] = await sent(answer)
    assert (start["status"], body["body"]) == (204, b"")
    assert b"content-length" not in dict(start["headers"])
    assert dict(start["headers"])[b"access-control-max-age"] == b"86400"
