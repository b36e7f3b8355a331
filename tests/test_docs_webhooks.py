"""docs/webhooks.md: its examples run, with signatures computed as their senders do."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from pathlib import Path
from urllib.parse import urlencode

import pytest

from cli_kit import Place
from eventrouter.config import loads
from eventrouter.config_webhooks import ROOTS, SCHEMES
from eventrouter.plugins import Plugins
from source_kit import Collecting, Response

TEXT = (Path(__file__).parent.parent / "docs" / "webhooks.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
BLOCKS = [
    (match[1] or "", match[2], match[3])
    for match in re.finditer(r"(?:<!-- ([a-z ]+) -->\n)?```(\w+)\n(.*?)```", TEXT, re.DOTALL)
]
STRIPE, GITHUB, SURVEY = ["version: 1\n" + body for label, language, body in BLOCKS if language == "yaml" and not label]
SECRETS = {"STRIPE_WEBHOOK_SECRET": "whsec_s", "GITHUB_WEBHOOK_SECRET": "secret-g", "SURVEY_TOKEN": "t0ken"}
DELIVERY = "72d3162e-cc78-11e3-81ab-4c9367dc0958"


def block(label: str) -> bytes:
    """The body of an example, as its sender writes it."""
    return next(json.dumps(json.loads(body)).encode() for name, _, body in BLOCKS if name == label)


def rows(section: str) -> list[str]:
    """The first cells of the section's table."""
    return re.findall(r"^\| `?([^`|]+?)`? \|", SECTIONS[section], re.MULTILINE)[1:]


async def send_stripe(collecting: Collecting, body: bytes, secret: str = "whsec_s") -> Response:
    at = int(time.time())
    signature = hmac.new(secret.encode(), b"%d." % at + body, hashlib.sha256).hexdigest()
    return await collecting.post("/v1/webhook/payments", body, stripe_signature=f"t={at},v1={signature}")


async def send_github(collecting: Collecting, body: bytes, event: str = "pull_request", **headers: str) -> Response:
    signature = "sha256=" + hmac.new(b"secret-g", body, hashlib.sha256).hexdigest()
    named = {"x_github_event": event, "x_github_delivery": DELIVERY, "x_hub_signature_256": signature, **headers}
    return await collecting.post("/v1/webhook/github", body, **named)


def assert_stores(collecting: Collecting, label: str) -> None:
    [event] = collecting.events
    expected = json.loads(block(label))
    assert {name: event[name] for name in expected} == expected
    assert collecting.rejected == []


@pytest.mark.parametrize("text", [STRIPE, GITHUB, SURVEY])
def test_each_file_is_valid(text: str) -> None:
    assert loads(text, Plugins(), SECRETS).warnings == ()


async def test_stripes_example_becomes_what_the_page_says() -> None:
    collecting = Collecting(STRIPE, **SECRETS)
    answer = await send_stripe(collecting, block("stripe sends"))
    assert (answer.status, answer.json) == (200, {"success": True})
    assert_stores(collecting, "stripe stores")
    assert collecting.events[0]["context"] == {"traits": {"email": "ada@shop.example"}}


async def test_githubs_example_becomes_what_the_page_says() -> None:
    collecting = Collecting(GITHUB, **SECRETS)
    assert (await send_github(collecting, block("github sends"))).status == 200
    assert_stores(collecting, "github stores")


async def test_githubs_other_content_type_works() -> None:
    collecting = Collecting(GITHUB, **SECRETS)
    form = urlencode({"payload": block("github sends").decode()}).encode()
    assert (await send_github(collecting, form, content_type="application/x-www-form-urlencoded")).status == 200
    assert_stores(collecting, "github stores")


async def test_a_token_is_enough_where_the_page_says_so() -> None:
    collecting = Collecting(SURVEY, **SECRETS)
    answer = await collecting.post("/v1/webhook/survey", {"respondent": "u", "score": 9}, x_survey_token="t0ken")
    assert (answer.status, collecting.events[0]["traits"]) == (200, {"nps": 9})


async def test_what_is_not_meant_is_answered_with_success() -> None:
    collecting = Collecting(GITHUB, **SECRETS)
    answer = await send_github(collecting, b'{"zen": "Design for failure."}', "ping")
    assert (answer.status, answer.json) == (200, {"success": True})
    assert (collecting.events, collecting.rejected) == ([], [])


async def test_a_repeat_has_the_same_message_id() -> None:
    collecting = Collecting(STRIPE, **SECRETS)
    body = json.loads(block("stripe sends"))
    for pending in (1, 2):
        await send_stripe(collecting, json.dumps({**body, "pending_webhooks": pending}).encode())
    assert [event["messageId"] for event in collecting.events] == [body["id"]] * 2


async def test_a_wrong_signature_is_refused_and_nothing_is_stored() -> None:
    collecting = Collecting(STRIPE, **SECRETS)
    refused = await send_stripe(collecting, block("stripe sends"), secret="whsec_other")
    missing = await collecting.post("/v1/webhook/payments", block("stripe sends"))
    for answer in (refused, missing):
        assert (answer.status, answer.json["code"]) == (401, "invalid_signature")
    assert (collecting.events, collecting.rejected) == ([], [])


async def test_what_cannot_be_mapped_is_kept_and_answered_with_success() -> None:
    collecting = Collecting(STRIPE, **SECRETS)
    body = json.loads(block("stripe sends"))
    body["data"]["object"]["amount_total"] = "free"
    answer = await send_stripe(collecting, json.dumps(body).encode())
    assert (answer.status, answer.json["rejected"][0]["code"]) == (200, "mapping_failed")
    [record] = collecting.rejected
    assert (record.source, record.message_id, json.loads(record.payload)) == ("payments", body["id"], body)


async def test_an_event_that_lacks_something_is_kept_and_answered_with_success() -> None:
    collecting = Collecting(STRIPE, **SECRETS)
    body = json.loads(block("stripe sends"))
    del body["data"]["object"]["client_reference_id"]
    answer = await send_stripe(collecting, json.dumps(body).encode())
    assert (answer.status, answer.json["rejected"][0]["code"]) == (200, "no_user_anon_id")
    assert [record.code for record in collecting.rejected] == ["no_user_anon_id"]


async def test_other_answers_are_as_the_page_says() -> None:
    collecting = Collecting(GITHUB.replace("    webhook:", "    enabled: false\n    webhook:"), **SECRETS)
    assert (await send_github(collecting, b"{}")).json["code"] == "source_disabled"
    collecting = Collecting(GITHUB, **SECRETS)
    assert (await send_github(collecting, b"no json")).json["code"] == "invalid_json"
    assert (await collecting.post("/v1/webhook/other", {})).status == 404


def test_the_tests_of_the_page_end_as_it_says(tmp_path: Path) -> None:
    tests = next(body for label, _, body in BLOCKS if label == "stripe tested")
    shown = next(body for _, language, body in BLOCKS if language == "text")
    done = Place(tmp_path, STRIPE + tests, **SECRETS).run("test")
    assert (done.returncode, done.stdout, done.stderr) == (1, shown, "")


def test_names_and_schemes_are_those_of_the_code() -> None:
    assert tuple(rows("The mapping")) == (*ROOTS, "vars")
    assert tuple(rows("Who sends")) == SCHEMES
