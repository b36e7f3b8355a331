"""The destination `webhook`: shape, ids, signature, options."""

import base64
import time

import msgspec
import pytest
from pydantic import ValidationError
from standardwebhooks import Webhook as Receiver
from standardwebhooks.webhooks import WebhookVerificationError

from eventrouter.builtin.webhook import Webhook, batch_id, register_destinations
from eventrouter.destination import Message
from eventrouter.errors import Reject
from eventrouter.http import USER_AGENT
from eventrouter.testing import Answer, DestinationContract, FakeServer, attempt, make_message

KEY = base64.b64encode(bytes(range(24))).decode()
SECRET = f"whsec_{KEY}"


class TestContract(DestinationContract):
    destination = Webhook

    def options(self, url):
        return {"url": url, "secret": SECRET, "headers": {"Authorization": "Bearer s3cr3t-token"}}


async def send(messages, *, batch_size=None, answer=None, **options):
    with FakeServer(answer) as server:
        parsed = Webhook.Options(url=server.url + "/hook?x=1", allow_private=True, **options)
        destination = Webhook(parsed, batch_size=batch_size)
        outcomes = await attempt(destination, messages)
        await destination.close()
    return server.received, outcomes


async def test_one_event_is_one_object_with_the_standard_headers():
    message = make_message()
    (request,), outcomes = await send([message])
    assert (request.method, request.path, request.json()) == ("POST", "/hook?x=1", message.payload)
    assert request.headers["webhook-id"] == message.id
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 5
    assert (request.headers["content-type"], request.headers["user-agent"]) == ("application/json", USER_AGENT)
    assert "webhook-signature" not in request.headers
    assert outcomes == {message.id: None}


@pytest.mark.parametrize(
    ("secret", "receiver"),
    [(SECRET, SECRET), (SECRET.rstrip("="), SECRET), ("a plain pass-phrase, ü", "a plain pass-phrase, ü".encode())],
)
async def test_the_signature_is_what_a_receiver_of_standard_webhooks_verifies(secret, receiver):
    message = make_message({"text": "Zoë bought 2**80"})
    (request,), _ = await send([message], secret=secret)
    assert Receiver(receiver).verify(request.body, request.headers) == message.payload
    with pytest.raises(WebhookVerificationError):
        Receiver(receiver).verify(request.body + b" ", request.headers)


async def test_a_batch_is_an_array_with_one_id_that_repeats():
    messages = [make_message({"n": n}, message_id=f"m{n}") for n in range(3)]
    (first,), _ = await send(messages, batch_size=10, secret=SECRET)
    (again,), _ = await send(messages, batch_size=10, secret=SECRET)
    assert first.json() == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert first.headers["webhook-id"] == again.headers["webhook-id"] == batch_id(messages)
    assert first.body == again.body
    assert batch_id(messages[:2]) != batch_id(messages)
    Receiver(SECRET).verify(first.body, first.headers)


async def test_a_batch_of_one_is_an_array_too_where_batches_are_configured():
    message = make_message({"n": 0})
    (request,), _ = await send([message], batch_size=10)
    assert request.json() == [{"n": 0}]
    assert request.headers["webhook-id"] == message.id


def test_without_a_configured_size_events_go_one_by_one():
    assert Webhook(Webhook.Options(url="https://a.example/")).configured_batch_size == 1


async def test_headers_of_the_options_are_sent_and_may_replace_the_content_type():
    headers = {"Authorization": "Bearer t", "Content-Type": "application/cloudevents+json"}
    (request,), _ = await send([make_message()], headers=headers, method="PUT")
    assert request.method == "PUT"
    assert request.headers["authorization"] == "Bearer t"
    assert request.headers["content-type"] == "application/cloudevents+json"


@pytest.mark.parametrize("payload", [None, 1, "text", [1, 2], {"a": {"b": 2**70}}])
async def test_any_json_value_can_be_a_payload(payload):
    message = Message("msg_1", payload, "m1", "website", "track", "k", "t")
    (request,), _ = await send([message])
    assert request.body == msgspec.json.encode(payload)


async def test_a_payload_that_is_not_json_is_a_reject():
    received, outcomes = await send([make_message({"a": "\ud800"})])
    (outcome,) = outcomes.values()
    assert isinstance(outcome, Reject)
    assert received == []


async def test_gone_is_a_reject_with_its_status():
    _, outcomes = await send([make_message()], answer=Answer(410, "gone"))
    (outcome,) = outcomes.values()
    assert (type(outcome), outcome.status, outcome.response) == (Reject, 410, "gone")


@pytest.mark.parametrize(
    "url", ["", "example.com/hook", "ftp://example.com", "http://", "https://a:0x/", "http://[::1"]
)
def test_an_address_that_is_not_http_is_a_wrong_option(url):
    with pytest.raises(ValidationError, match="must begin with http:// or https://"):
        Webhook.Options(url=url)


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"Webhook-Id": "1"}, "is set by the webhook itself"),
        ({"content-length": "1"}, "is set by the webhook itself"),
        ({"a b": "1"}, "is not a header name"),
        ({"": "1"}, "is not a header name"),
        ({"x": "s3cr3t\r\ny: 1"}, "has a line break or a control character"),
    ],
)
def test_a_header_that_cannot_be_sent_is_a_wrong_option(headers, why):
    with pytest.raises(ValidationError, match=why):
        Webhook.Options(url="https://a.example/", headers=headers)


def test_credentials_are_either_in_the_address_or_in_a_header():
    Webhook.Options(url="https://user:pass@a.example/", headers={"X-Team": "shop"})
    with pytest.raises(ValidationError, match="'authorization' and the user and password in `url` can't both"):
        Webhook.Options(url="https://user:pass@a.example/", headers={"authorization": "Bearer t"})


def test_a_secret_that_is_not_base64_is_a_wrong_option_and_is_not_shown():
    with pytest.raises(ValidationError, match="is not base64") as caught:
        Webhook.Options(url="https://a.example/", secret="whsec_not*base64")
    assert "not*base64" not in str(caught.value)


async def test_an_empty_secret_signs_nothing():
    (request,), _ = await send([make_message()], secret="")
    assert "webhook-signature" not in request.headers


def test_shown_requests_have_no_secrets():
    options = Webhook.Options(url="https://user:pass@a.example:8443/h?k=1", headers={"X-Key": "s3cr3t"}, secret=SECRET)
    (request,) = Webhook(options).requests([make_message({"n": 1})])
    assert (request.url, request.body) == ("https://a.example:8443/h?k=1", '{"n":1}')
    assert request.headers["x-key"] == "**********"


def test_the_plugin_registers_itself():
    assert register_destinations() == [Webhook]
