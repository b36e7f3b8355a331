import base64
import hashlib
import hmac
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from eventrouter.acceptance import BodyError
from eventrouter.config_model import VerifyConfig
from eventrouter.signatures import Verifier, is_standard_secret

BODY = b'{"id":"evt_1"}'
NOW = 1_900_000_000.0
STANDARD = "whsec_" + base64.b64encode(b"secret-of-the-sender").decode()


def check(config: VerifyConfig, headers: Any = None, query: Any = None, body: bytes = BODY) -> str:
    """What is wrong with a request; nothing when all is well."""
    try:
        Verifier(config, lambda: NOW).check(body, headers or {}, query or {})
    except BodyError as error:
        assert (error.code, error.status) == ("invalid_signature", 401)
        return str(error)
    return ""


def signed(secret: str, data: bytes) -> str:
    return hmac.new(secret.encode(), data, hashlib.sha256).hexdigest()


# -- Stripe ------------------------------------------------------------------------------------------------------------

STRIPE = VerifyConfig("stripe", ("whsec_new", "whsec_old"))


def stripe(secret: str, at: float = NOW, body: bytes = BODY, more: str = "") -> dict[str, str]:
    at = int(at)
    return {"stripe-signature": f"t={at},v1={signed(secret, b'%d.' % at + body)}{more}"}


def test_a_signature_of_stripe_is_taken() -> None:
    assert check(STRIPE, stripe("whsec_new")) == ""
    assert check(STRIPE, stripe("whsec_old")) == ""
    assert check(STRIPE, {"stripe-signature": stripe("other")["stripe-signature"] + ",v1=x,v0=y"}) != ""
    both = f"{stripe('other')['stripe-signature']},v1={stripe('whsec_new')['stripe-signature'].split('v1=')[1]},v0=abc"
    assert check(STRIPE, {"stripe-signature": both}) == ""


@pytest.mark.parametrize("age", [301, -301])
def test_a_signature_of_stripe_of_another_time_is_refused(age: int) -> None:
    assert check(STRIPE, stripe("whsec_new", NOW - age)) == "the Stripe-Signature is too old"
    assert check(STRIPE, stripe("whsec_new", NOW - (age // abs(age)) * 299)) == ""


def test_the_tolerance_can_be_set() -> None:
    assert check(VerifyConfig("stripe", ("whsec_new",), tolerance=600), stripe("whsec_new", NOW - 500)) == ""


def test_the_time_of_stripe_is_signed() -> None:
    old = stripe("whsec_new", NOW - 1000)["stripe-signature"].partition(",")[2]
    assert check(STRIPE, {"stripe-signature": f"t={int(NOW)},{old}"}) == "the Stripe-Signature is not that of this body"


def test_another_body_is_not_what_stripe_signed() -> None:
    assert check(STRIPE, stripe("whsec_new"), body=BODY + b" ") == "the Stripe-Signature is not that of this body"


@pytest.mark.parametrize(
    "header", ["", "t=1", "v1=a", "t=,v1=a", "t=x,v1=a", "t=1,t=2,v1=a", "t=²,v1=a", "nonsense", "t=1;v1=a", "=,=,="]
)
def test_an_odd_header_is_no_signature_of_stripe(header: str) -> None:
    assert check(STRIPE, {"stripe-signature": header}) == "the request has no valid Stripe-Signature"


# -- GitHub ------------------------------------------------------------------------------------------------------------

GITHUB = VerifyConfig("github", ("It's a Secret to Everybody",))


def test_the_example_of_githubs_documentation_is_taken() -> None:
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert check(GITHUB, {"x-hub-signature-256": signature}, body=b"Hello, World!") == ""
    assert check(GITHUB, {"x-hub-signature-256": signature}, body=b"Hello, World?") != ""


@pytest.mark.parametrize("header", ["", "sha256=", "sha256=ä", "sha1=757107", "757107ea", "sha256"])
def test_an_odd_header_is_no_signature_of_github(header: str) -> None:
    assert check(GITHUB, {"x-hub-signature-256": header}) != ""


# -- Standard Webhooks -------------------------------------------------------------------------------------------------


def standard(secret: str = STANDARD, age: int = 0, body: bytes = BODY) -> dict[str, str]:
    at = datetime.now(UTC) - timedelta(seconds=age)
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", at, body.decode()),
    }


def test_a_signature_of_standard_webhooks_is_taken() -> None:
    other = "whsec_" + base64.b64encode(b"another-secret-of-it").decode()
    config = VerifyConfig("standard-webhooks", (other, STANDARD))
    assert check(config, standard()) == check(config, standard(other)) == ""
    assert check(config, standard(), body=BODY + b" ") != ""
    assert check(config, standard(age=400)) != ""
    assert check(config, {**standard(), "webhook-id": "msg_2"}) != ""


@pytest.mark.parametrize(
    "odd", [{"webhook-signature": "x"}, {"webhook-signature": "v1,ä"}, {"webhook-timestamp": "x"}, {"webhook-id": ""}]
)
def test_odd_headers_are_no_signature_of_standard_webhooks(odd: dict[str, str]) -> None:
    assert check(VerifyConfig("standard-webhooks", (STANDARD,)), {**standard(), **odd}) != ""
    assert check(VerifyConfig("standard-webhooks", (STANDARD,)), standard(), body=b"\xff") != ""


def test_a_secret_of_standard_webhooks_is_base64() -> None:
    assert [is_standard_secret(text) for text in (STANDARD, "whsec_", "whsec_ä", "c2VjcmV0")] == [
        True,
        False,
        False,
        True,
    ]


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_a_token_stands_in_a_header_or_in_the_query() -> None:
    header = VerifyConfig("token", ("s3cret", "other"), header="x-token")
    query = VerifyConfig("token", ("s3cret",), query="token")
    assert check(header, {"x-token": "s3cret"}) == check(header, {"x-token": "other"}) == ""
    assert check(query, query={"token": "s3cret"}) == ""
    wrong = "the request has not the token of this source"
    for headers in ({}, {"x-token": ""}, {"x-token": "s3cre"}, {"x-token": "s3cret2"}, {"token": "s3cret"}):
        assert check(header, headers) == wrong
    assert check(query, {"token": "s3cret"}, {"x": "s3cret"}) == wrong


def test_a_bearers_token_is_taken() -> None:
    config = VerifyConfig("token", ("s3cret",), header="authorization")
    for value in ("Bearer s3cret", "bearer s3cret", "BEARER  s3cret", "s3cret"):
        assert check(config, {"authorization": value}) == ""
    assert check(config, {"authorization": "Basic s3cret"}) != ""


def test_none_takes_all() -> None:
    assert check(VerifyConfig("none")) == ""


@given(
    st.sampled_from(["stripe", "github", "standard-webhooks", "token"]),
    st.dictionaries(
        st.sampled_from(
            ["stripe-signature", "x-hub-signature-256", "webhook-id", "webhook-signature", "webhook-timestamp", "x"]
        ),
        st.text(st.characters(max_codepoint=255)) | st.just(f"t={int(NOW)},v1=0"),
    ),
    st.binary(),
)
def test_nothing_odd_passes_or_fails_otherwise(scheme: str, headers: dict[str, str], body: bytes) -> None:
    assert check(VerifyConfig(scheme, (STANDARD,), header="x"), headers, body=body) != ""


def test_the_time_is_that_of_the_clock() -> None:
    Verifier(STRIPE).check(BODY, stripe("whsec_new", time.time()), {})
