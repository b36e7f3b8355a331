"""Whatever is sent to a collector: never a server error, and never a good event lost because of its neighbours."""

from __future__ import annotations

import gzip
import itertools
import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from arrivals import Source
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    positive_data_acceptance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

TYPES = ("track", "identify", "page", "screen", "group", "alias")
KEYS = (
    *("type", "event", "userId", "anonymousId", "messageId", "groupId", "previousId", "name", "category", "channel"),
    *("timestamp", "originalTimestamp", "sentAt", "receivedAt", "properties", "traits", "context", "integrations"),
    *("writeKey", "person_id", "_metadata", "batch"),
)
DEEP = "[" * 200
ODD = (
    *("null", "true", "false", "0", "-0", "-0.0", "1e400", "-1e400", "NaN", "Infinity", "-Infinity", "1e-400"),
    *(str(2**53 + 1), str(2**63), str(2**64), str(-(2**63) - 1), "9" * 400, "0." + "1" * 400, "1E5", "5e-324"),
    *('""', '" "', '"\\ud800"', '"\\udfff\\ud800"', '"\\u0000"', '"\\ufffe"', '"\\u2028"', '"' + "ü" * 2000 + '"'),
    *('"2026-13-45T99:99:99Z"', '"0000-00-00"', '"9999-12-31T23:59:59.999Z"', '"2026-11-24T17:00:00+99:99"', '"now"'),
    *("[]", "{}", "[[]]", '{"": ""}', '{"a": 1, "a": 2}', '{"__proto__": {}}', DEEP + "]" * 200),
    *('{"\\ud800": 1}', '{"traits": []}', '{"page": 5}', '{"library": null}', '{"ip": {}}', '{"consent": {"a": 1}}'),
)
"""JSON, and what some clients take for it, by which parsers and tables may stumble."""

numbers = st.floats(allow_nan=False, allow_infinity=False).map(repr) | st.integers().map(str)
texts = st.sampled_from(ODD) | st.text(max_size=20).map(json.dumps) | numbers
values = st.recursive(
    texts,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: f"[{','.join(items)}]")
        | st.dictionaries(st.text(max_size=8), inner, max_size=4).map(lambda items: _object(items))
    ),
    max_leaves=8,
)
keys = st.sampled_from(KEYS)
events = st.builds(
    lambda items, kind: _object(kind | items if isinstance(kind, dict) else items),
    st.dictionaries(keys, values, max_size=6),
    st.none() | st.sampled_from(TYPES).map(lambda name: {"type": f'"{name}"', "userId": '"malformed"', "event": '"E"'}),
)
batches = st.tuples(st.lists(events | values, max_size=4), st.lists(events | values, max_size=4))
# What a batch says for all its events is part of each: nested too deeply, it would rightly cost them all.
shallow = values.filter(lambda text: DEEP not in text)
tails = st.dictionaries(st.sampled_from(("sentAt", "context", "integrations", "writeKey", "x")), shallow, max_size=3)

RUN = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
"""Always the same examples, and none is made smaller: what fails is told whole."""

PROPERTIES = {"exact": 2**70, "text": "Grüße 😀", "list": [1.5, None, {"a": []}]}


def _object(items: dict[str, str]) -> str:
    return "{" + ",".join(f"{json.dumps(key)}:{value}" for key, value in items.items()) + "}"


class Sender:
    """Requests to a source's system on one connection, and the good events that were among them."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._connection = HTTPConnection("127.0.0.1", source.system.port, timeout=30)
        self._numbers = itertools.count()
        self.good: list[str] = []

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()

    def make_good(self) -> dict[str, Any]:
        """A good event with an id of its own."""
        self.good.append(f"{self._source.name}-good-{next(self._numbers)}")
        who = f"{self._source.name}-neighbour"
        return {
            "type": "track",
            "event": "Neighbour",
            "messageId": self.good[-1],
            "anonymousId": who,
            "properties": PROPERTIES,
        }

    def post(self, path: str, body: bytes, headers: dict[str, str] | None = None, method: str = "POST") -> Any:
        """One request with the source's key; its status, headers and body. Fails when it is a server error."""
        auth = "Basic " + b64encode(f"{self._source.key}:".encode()).decode()
        try:
            self._connection.request(method, path, body, {"Authorization": auth, **(headers or {})})
            answer = self._connection.getresponse()
        except OSError:  # the collector may end a connection after an error; it does not do so before its answer
            self._connection.close()
            self._connection.request(method, path, body, {"Authorization": auth, **(headers or {})})
            answer = self._connection.getresponse()
        text = answer.read()
        assert 200 <= answer.status < 500, (answer.status, text, body)
        return answer.status, text

    def check(self) -> None:
        """Fails unless all good events arrived as they were, and nothing is stuck."""
        name = self._source.name
        query = "SELECT id, payload FROM events WHERE source = ? AND id LIKE ?"
        rows = self._source.system.rows(len(self.good), query, name, f"{name}-good-%")
        assert {row["id"] for row in rows} == set(self.good)
        for row in rows:
            event = json.loads(row["payload"])
            assert (event["properties"], event["event"]) == (PROPERTIES, "Neighbour")
        self._source.system.until_count(0, "waiting", lane="log")
        self._source.system.until_count(0, "waiting", lane="warehouse")
        assert "Traceback" not in self._source.system.log


@pytest.fixture
def sender(source: Source) -> Iterator[Sender]:
    """A sender to this test's source; at the end the good events that it sent have to be there."""
    with closing(Sender(source)) as one:
        yield one
        one.check()


def test_no_batch_costs_a_good_event(sender: Sender) -> None:
    @RUN
    @given(batches, tails, st.booleans(), st.sampled_from(["/v1/batch", "/v1/b", "/v1/import"]))
    def send(around: tuple[list[str], list[str]], tail: dict[str, str], packed: bool, path: str) -> None:
        before, after = around
        batch = ",".join([*before, json.dumps(sender.make_good()), *after])
        body = _object({**tail, "batch": f"[{batch}]"}).encode()
        headers = {"Content-Encoding": "gzip"} if packed else {}
        status, text = sender.post(path, gzip.compress(body) if packed else body, headers)
        assert status == 200, (text, body)
        answer = json.loads(text)
        assert answer["success"] is True
        assert len(before) not in [one["index"] for one in answer.get("rejected", [])], (tail, text)

    send()


def test_no_request_is_a_server_error_and_none_harms_the_next(sender: Sender) -> None:
    paths = [f"/v1/{name}" for name in (*TYPES, "t", "m", "batch", "import")] + [
        "/beacon/v1/batch",
        "/",
        "/sourceConfig/",
    ]
    paths += [f"/v1/pixel/{name}" for name in ("track", "p", "x")] + ["/v1/projects/x/settings", "/v1/webhook/x"]
    query = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=30)
    types = st.sampled_from(["application/json", "text/plain", "application/x-www-form-urlencoded", "x", ""])
    encodings = st.sampled_from(["", "", "", "gzip", "deflate", "br", "x"])

    @RUN
    @given(
        st.sampled_from(["POST", "POST", "POST", "GET", "PUT", "OPTIONS", "DELETE"]),
        st.sampled_from(paths),
        query | query.map(lambda text: f"data={text}"),
        events.map(str.encode) | values.map(str.encode) | st.binary(max_size=60),
        types,
        encodings,
    )
    def send(method: str, path: str, query: str, body: bytes, kind: str, encoding: str) -> None:
        headers = {"Content-Type": kind, "Content-Encoding": encoding, "Origin": "http://shop.test"}
        sender.post(f"{path}?{query}", body, {name: text for name, text in headers.items() if text}, method)
        assert sender.post("/v1/track", json.dumps(sender.make_good()).encode())[0] == 200

    send()


DESCRIPTION = schemathesis.openapi.from_path(str(Path(__file__).parents[2] / "docs" / "openapi.yaml"))


@DESCRIPTION.parametrize()
@settings(RUN, max_examples=12)
def test_the_collector_does_what_its_description_says(case: schemathesis.Case, sender: Sender, source: Source) -> None:
    if "batch" in case.path and isinstance(case.body, dict) and isinstance(case.body.get("batch"), list):
        case.body["batch"] = [*case.body["batch"], sender.make_good()]
    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    checks += [response_headers_conformance, positive_data_acceptance]
    response = case.call(base_url=source.system.url, auth=(source.key, ""))
    case.validate_response(response, checks=checks)
