import hashlib
import hmac
import json
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventrouter.acceptance import BodyError
from eventrouter.config_model import ScrubConfig, SourceConfig, VerifyConfig, WebhookSourceConfig
from eventrouter.decode import Decoded
from eventrouter.records import RejectedEvent
from eventrouter.webhook_source import WebhookSource, read_headers, read_query

RECEIVED = datetime(2026, 11, 24, 17, 0, tzinfo=UTC)
JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}


def source(
    event: Any = None,
    when: str | None = None,
    verify: VerifyConfig | None = None,
    scrub: ScrubConfig | None = None,
    filters: Any = None,
) -> WebhookSource:
    event = event or {"type": "track", "event": "Paid", "userId": "{{ body.user }}", "n": "{{ body.n }}"}
    config = WebhookSourceConfig(verify or VerifyConfig("none"), event, when)
    return WebhookSource(SourceConfig("shop", (), scrub=scrub, webhook=config), filters)


def take(webhook: WebhookSource, body: Any, headers: Any = JSON, query: Any = None) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return webhook.take(raw, headers, query or {}, RECEIVED)


def event_of(taken: Any) -> dict[str, Any]:
    assert isinstance(taken, Decoded)
    [event] = taken.value["batch"]
    return event


def test_a_body_becomes_an_event() -> None:
    event = event_of(take(source(), {"user": "u", "n": 2**70}))
    message_id = event.pop("messageId")
    assert event == {"type": "track", "event": "Paid", "userId": "u", "n": 2**70}
    assert message_id == hashlib.sha256(b'{"user": "u", "n": 1180591620717411303424}').hexdigest()


def test_headers_and_query_may_be_used() -> None:
    webhook = source({"type": "{{ query.type }}", "userId": 'u-{{ headers["x-user"] }}'})
    event = event_of(take(webhook, [], {"x-user": "7"}, {"type": "page"}))
    assert (event["type"], event["userId"]) == ("page", "u-7")


def test_variables_may_be_used() -> None:
    event = {"type": "track", "n": "{{ vars.cents }}"}
    config = WebhookSourceConfig(VerifyConfig("none"), event, "body.n > vars.least")
    webhook = WebhookSource(SourceConfig("shop", (), webhook=config), {}, {"least": 1, "cents": "{{ body.n * 100 }}"})
    assert take(webhook, {"n": 1}) is None
    assert event_of(take(webhook, {"n": 2}))["n"] == 200


def test_what_is_missing_is_left_out() -> None:
    assert "userId" not in event_of(take(source(), {}))


def test_filters_of_plugins_work() -> None:
    webhook = source({"type": "page", "userId": "{{ body | shout }}"}, filters={"shout": lambda value: f"{value}!"})
    assert event_of(take(webhook, "u"))["userId"] == "u!"


def test_what_when_excludes_is_ignored() -> None:
    webhook = source(when='body.type == "paid" and headers["x-live"] == "1"')
    assert take(webhook, {"type": "paid"}, {"x-live": "1"}) is not None
    assert take(webhook, {"type": "paid"}, {"x-live": "0"}) is None
    assert take(webhook, ["odd"]) is None


def test_an_untrusted_request_is_refused_before_it_is_read() -> None:
    webhook = source(verify=VerifyConfig("token", ("s3cret",), header="x-token"))
    with pytest.raises(BodyError) as caught:
        take(webhook, b"no json")
    assert caught.value.status == 401
    assert take(webhook, {}, {"x-token": "s3cret"}) is not None


# -- repeats -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["webhook-id", "svix-id", "x-github-delivery"])
def test_a_repeated_delivery_has_the_same_message_id(header: str) -> None:
    assert event_of(take(source(), {"user": 1}, {header: "d-1"}))["messageId"] == "d-1"


def test_an_event_of_stripe_has_its_id() -> None:
    body = json.dumps({"id": "evt_1", "pending_webhooks": 2}).encode()
    at = int(time.time())
    signature = hmac.new(b"whsec_x", b"%d." % at + body, hashlib.sha256).hexdigest()
    stripe = source(verify=VerifyConfig("stripe", ("whsec_x",)))
    assert event_of(take(stripe, body, {"stripe-signature": f"t={at},v1={signature}"}))["messageId"] == "evt_1"
    assert event_of(take(source(), body))["messageId"] == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("odd", ["", " ", "x" * 101, "a\nb", "\x7f"])
def test_an_odd_delivery_id_is_no_message_id(odd: str) -> None:
    assert len(event_of(take(source(), {}, {"webhook-id": odd}))["messageId"]) == 64


@pytest.mark.parametrize(("mapped", "expected"), [("{{ body.id }}", "7"), ("{{ body.none }}", "d-1"), (None, "d-1")])
def test_a_mapped_message_id_wins(mapped: Any, expected: str) -> None:
    webhook = source({"type": "page", "userId": "u", "messageId": mapped})
    assert str(event_of(take(webhook, {"id": 7}, {"webhook-id": "d-1"}))["messageId"]) == expected


# -- bodies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/json; charset=utf-8", FORM["content-type"]])
def test_json_is_json_whatever_the_content_type_says(content_type: str) -> None:
    assert event_of(take(source(), {"user": "u"}, {"content-type": content_type}))["userId"] == "u"


def test_a_form_is_an_object_of_its_fields() -> None:
    body = urlencode([("user", "ä & b"), ("n", ""), ("tag", "1"), ("tag", "2"), ("tag", "3")]).encode()
    webhook = source({"type": "page", "userId": "{{ body.user }}", "n": "{{ body.n }}", "tags": "{{ body.tag }}"})
    event = event_of(take(webhook, body, FORM))
    assert (event["userId"], event["n"], event["tags"]) == ("ä & b", "", ["1", "2", "3"])


def test_the_json_in_a_forms_only_field_payload_is_the_body() -> None:
    body = urlencode({"payload": json.dumps({"user": "u", "n": 1})}).encode()
    assert event_of(take(source(), body, FORM))["userId"] == "u"
    other = urlencode({"payload": "p", "user": "v"}).encode()
    assert event_of(take(source(), other, FORM))["userId"] == "v"


@pytest.mark.parametrize("body", [b"", b"no json", b"{", b"<xml/>"])
def test_what_is_neither_is_refused(body: bytes) -> None:
    with pytest.raises(BodyError) as caught:
        take(source(), body)
    assert (caught.value.code, caught.value.status) == ("invalid_json", 400)


def test_a_form_of_endless_fields_is_refused() -> None:
    with pytest.raises(BodyError, match="1000 fields"):
        take(source(), b"a=1&" * 1001, FORM)


def test_endless_nesting_is_refused() -> None:
    for levels in (101, 900, 100_000):
        with pytest.raises(BodyError) as caught:
            take(source(), b"[" * levels + b"]" * levels)
        assert caught.value.status == 400


def test_what_json_has_no_word_for_is_mended_and_counted() -> None:
    taken = take(source(), b'{"user":"a\\ud800","n":NaN}')
    assert (event_of(taken)["userId"], event_of(taken)["n"]) == ("a\ufffd", None)
    assert taken.mended == {"not_unicode": 1, "not_a_number": 1}


# -- what cannot be mapped ---------------------------------------------------------------------------------------------


def test_what_cannot_be_mapped_is_kept_as_a_rejected_event() -> None:
    webhook = source({"type": "track", "event": "A", "userId": "u", "properties": {"n": "{{ body.n / 0 }}"}})
    taken = take(webhook, {"n": 5}, {"webhook-id": "d-1"})
    assert isinstance(taken, RejectedEvent)
    message = "the webhook's mapping failed: `event.properties.n` `/` divides by zero"
    assert (taken.source, taken.code, taken.message) == ("shop", "mapping_failed", message)
    assert (taken.message_id, taken.payload, taken.received_at) == ("d-1", '{"n": 5}', "2026-11-24T17:00:00.000Z")


def test_of_a_source_that_scrubs_no_body_is_kept() -> None:
    webhook = source({"type": "page", "userId": "{{ body.n / 0 }}"}, scrub=ScrubConfig(remove=("context.ip",)))
    assert take(webhook, {"n": 5, "ip": "1.2.3.4"}).payload == ""


def test_a_body_is_kept_whole() -> None:
    webhook = source({"type": "page", "userId": "{{ body.n / 0 }}"})
    body = {"n": 5, "text": "x" * 100_000}
    assert json.loads(take(webhook, body).payload) == body


@given(st.binary() | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["user", "n", "x"]), inner),
).map(lambda value: json.dumps(value).encode()), st.sampled_from([JSON, FORM]))  # fmt: skip
def test_any_body_becomes_an_event_or_is_refused(body: bytes, headers: Any) -> None:
    webhook = source({"type": "page", "userId": "{{ body.user ~ body.n }}", "x": "{{ body.x * 2 }}"}, "body != 5")
    try:
        taken = take(webhook, body, headers)
    except BodyError as error:
        assert error.status == 400
    else:
        assert taken is None or isinstance(taken, (Decoded, RejectedEvent))


# -- requests ----------------------------------------------------------------------------------------------------------


def test_headers_and_query_are_read_as_texts() -> None:
    assert read_headers({b"x-a": b"\xe4"}) == {"x-a": "ä"}
    assert read_query(b"a=1&b=%C3%A4&a=2&c") == {"a": "2", "b": "ä", "c": ""}
    assert read_query(b"a=1&" * 2000) == {}
