import json
from typing import Any

import pytest

from eventrouter.answer import SUCCESS, Answer, cors_headers, failure, preflight, success


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


async def test_a_closing_answer_ends_the_connection() -> None:
    [start, _] = await sent(SUCCESS.closing(), (b"vary", b"origin"))
    assert start["headers"][1:] == [(b"connection", b"close"), (b"content-length", b"17"), (b"vary", b"origin")]


def test_a_page_of_any_origin_may_read_the_answer() -> None:
    assert dict(cors_headers(b"https://shop.example.com")) == {
        b"access-control-allow-origin": b"https://shop.example.com",
        b"access-control-allow-credentials": b"true",
        b"vary": b"origin",
    }


@pytest.mark.parametrize("origin", [None, b"", b"a\r\nset-cookie: x", b"\xff", b"x" * 301])
def test_what_is_no_origin_is_not_repeated(origin: bytes | None) -> None:
    assert cors_headers(origin) == ()


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
