"""What plugins build on: the base class, messages, and how an answer's status becomes an outcome."""

import msgspec
import pytest
from pydantic import ValidationError

from eventrouter.destination import Destination, Message, check_response
from eventrouter.errors import Reject, Retry
from eventrouter.http import Response


class Quiet(Destination):
    name = "quiet"
    batch_size = 50


class Single(Quiet):
    name = "single"
    default_batch_size = 1


def message() -> Message:
    return Message("msg_1", {}, "m1", "website", "track", "k", "2026-11-24T17:00:00.000Z")


def with_payload(payload: object) -> Message:
    return Message("msg_1", payload, "m1", "website", "track", "k", "2026-11-24T17:00:00.000Z")


def test_a_payload_is_there_as_a_value_and_as_json():
    for one in (with_payload({"big": 2**70}), with_payload(msgspec.Raw(b'{"big":1180591620717411303424}'))):
        assert ({"big": 2**70}, b'{"big":1180591620717411303424}') == (one.payload, one.json)


def test_a_payload_that_nobody_asks_for_is_not_decoded():
    assert b"no JSON" == with_payload(msgspec.Raw(b"no JSON")).json


def test_what_is_decoded_is_decoded_once():
    one = with_payload(msgspec.Raw(b'{"a":1}'))
    assert one.payload is one.payload


def test_a_payload_that_cannot_be_json_is_a_reject():
    with pytest.raises(Reject, match="cannot be written as JSON"):
        assert not with_payload({"a": "\ud800"}).json


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_delivered(status):
    assert check_response(Response(status)) is None


@pytest.mark.parametrize(
    ("status", "everyone"),
    [(408, False), (425, False), (429, True), (500, False), (503, True), (599, False)],
)
def test_a_status_that_passes_by_itself_is_a_retry(status, everyone):
    with pytest.raises(Retry) as caught:
        check_response(Response(status, {"Retry-After": "7"}, b"busy"))
    error = caught.value
    assert (error.status, error.after, error.response, error.everyone) == (status, 7.0, "busy", everyone)
    assert error.reason == f"HTTP {status}"


@pytest.mark.parametrize("status", [301, 302, 308, 400, 401, 403, 404, 409, 410, 413, 422])
def test_every_other_status_is_a_reject(status):
    with pytest.raises(Reject, match=f"HTTP {status}") as caught:
        check_response(Response(status, {"Retry-After": "7"}, b"no"))
    assert (caught.value.status, caught.value.response) == (status, "no")


def test_what_a_server_answers_is_kept_in_the_error():
    with pytest.raises(Reject) as caught:
        check_response(Response(400, {}, b"x" * 5000))
    assert caught.value.response == "x" * 5000


async def test_a_destination_is_called_by_its_plugin_until_it_has_a_name():
    assert Quiet(Quiet.Options()).destination == "quiet"
    assert Quiet(Quiet.Options(), destination="crm").destination == "crm"


async def test_the_options_reach_the_http_client():
    destination = Quiet(Quiet.Options(timeout=3, allow_private=True))
    assert (destination.http.timeout, destination.http.allow_private) == (3, True)


def test_an_option_that_is_not_known_is_refused():
    with pytest.raises(ValidationError, match="allow_privat"):
        Quiet.Options(allow_privat=True)


def test_a_wrong_option_is_not_shown_with_its_value():
    with pytest.raises(ValidationError) as caught:
        Quiet.Options(timeout="s3cr3t")
    assert "s3cr3t" not in str(caught.value)


def test_the_configured_batch_size_is_the_files_else_the_default_else_the_most():
    options = Quiet.Options()
    assert Quiet(options).configured_batch_size == 50
    assert Single(options).configured_batch_size == 1
    assert Single(options, batch_size=20).configured_batch_size == 20


async def test_a_plugin_without_deliver_says_so():
    with pytest.raises(TypeError, match=r"Quiet does not define deliver\(\)"):
        await Quiet(Quiet.Options()).deliver([message()])


async def test_a_destination_that_never_sent_anything_closes():
    destination = Quiet(Quiet.Options())
    await destination.start()
    await destination.close()
    assert destination.requests([message()]) == []
