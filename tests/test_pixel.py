import json
from base64 import b64encode, urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventrouter.acceptance import BodyError
from eventrouter.pixel import MAX_FIELDS, PIXEL, read_pairs, read_pixel, refuse_pixel
from eventrouter.records import MAX_PAYLOAD
from eventrouter.scrub import Scrub
from eventrouter.source import Source
from eventrouter.validation import EventFault

EVENT = {"userId": "ü?>~", "event": "Order Completed", "properties": {"total": 10.5, "big": 2**70}}
DATA = json.dumps(EVENT).encode()


def read(query: str | bytes, body: bytes = b"") -> Any:
    return read_pixel(read_pairs(query.encode() if isinstance(query, str) else query, body)).value


def test_the_pixel_is_a_picture_that_nobody_keeps() -> None:
    assert (PIXEL.status, PIXEL.body[:6], len(PIXEL.body)) == (200, b"GIF89a", 42)
    assert dict(PIXEL.headers) == {
        b"content-type": b"image/gif",
        b"cache-control": b"no-store",
        b"cross-origin-resource-policy": b"cross-origin",
    }


# -- data= -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encode", [b64encode, urlsafe_b64encode])
@pytest.mark.parametrize("text", [EVENT, {"a": "x"}, {"a": "xx"}, {"a": "xxx"}])
def test_data_is_json_in_base64_of_either_alphabet_padded_or_not(encode: Any, text: Any) -> None:
    data = encode(json.dumps(text).encode()).decode()
    assert read("data=" + quote(data)) == text
    assert read("data=" + data.rstrip("=")) == text


def test_data_that_was_not_escaped_or_is_in_lines_is_understood() -> None:
    data = b64encode(b'{"a":"\xc3\xbf~\xc3\xbf~"}').decode()
    assert "+" in data
    assert read("data=" + data) == {"a": "ÿ~ÿ~"}
    assert read("data=" + data[:8] + "%0D%0A" + data[8:]) == {"a": "ÿ~ÿ~"}


def test_what_json_cannot_hold_is_mended_and_counted() -> None:
    assert read_pixel([("data", b64encode(b'{"a":NaN}').decode())]) == ({"a": None}, {"not_a_number": 1})


@pytest.mark.parametrize(
    "query",
    [
        "data=!",
        "data=%C3%BC",
        "data=YQ==YQ",
        "data=",
        "data=" + b64encode(b"{").decode(),
        "data=" + b64encode(b"[1]").decode(),
        "data=e30&data=e30",
        "properties=a&properties.total=5",
        "properties.total=5&properties=a",
        "a.b=1&a.b.c.d=1",
        ".".join("a" * 21) + "=1",
    ],
)
def test_what_is_no_event_is_a_fault(query: str) -> None:
    with pytest.raises(EventFault) as caught:
        read(query)
    assert caught.value.code == "invalid_pixel"


# -- dotted parameters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "event"),
    [
        ("", {}),
        ("userId=u&event=Order%20Completed", {"userId": "u", "event": "Order Completed"}),
        ("event=Order+Completed", {"event": "Order Completed"}),
        ("properties.total=5&properties.coupon=", {"properties": {"total": "5", "coupon": ""}}),
        (
            "context.page.url=https://shop.example/%3Fa%3D1",
            {"context": {"page": {"url": "https://shop.example/?a=1"}}},
        ),
        ("properties.tags=a&properties.tags=b", {"properties": {"tags": ["a", "b"]}}),
        (
            "properties.items.1.sku=B&properties.items.0.sku=A&properties.items.0.n=2",
            {"properties": {"items": [{"sku": "A", "n": "2"}, {"sku": "B"}]}},
        ),
        ("properties.a.1=x", {"properties": {"a": {"1": "x"}}}),
        ("properties.a.0=x&properties.a.b=y", {"properties": {"a": {"0": "x", "b": "y"}}}),
        ("0=x", {"0": "x"}),
        ("name=%C3%BC", {"name": "ü"}),
        (b"name=\xc3\xbc", {"name": "ü"}),
        ("name=%FF", {"name": "\udcff"}),
        ("writeKey=k&userId=u", {"writeKey": "k", "userId": "u"}),
    ],
)
def test_parameters_are_paths_into_the_event(query: str | bytes, event: Any) -> None:
    assert read(query) == event


def test_a_parameter_replaces_what_data_holds_at_its_place_and_nothing_else() -> None:
    data = b64encode(b'{"userId":"u","properties":{"total":5,"currency":"EUR"}}').decode()
    assert read(f"data={data}&properties.total=6&context.ip=1.2.3.4&userId.x=1") == {
        "userId": {"x": "1"},
        "properties": {"total": "6", "currency": "EUR"},
        "context": {"ip": "1.2.3.4"},
    }


def test_a_form_that_was_posted_adds_to_the_query() -> None:
    assert read("userId=u", b"event=A") == {"userId": "u", "event": "A"}


def test_too_many_parameters_are_refused() -> None:
    read("&".join(["a=1"] * MAX_FIELDS))
    with pytest.raises(BodyError) as caught:
        read("&".join(["a=1"] * (MAX_FIELDS + 1)))
    assert (caught.value.code, caught.value.status) == ("too_many_fields", 400)


names = st.lists(st.text("ab01") | st.text(), min_size=1, max_size=4).map(".".join)


@given(
    st.binary()
    | st.lists(st.tuples(names | st.just("data"), st.text("ab=-_ \n") | st.text())).map(
        lambda pairs: urlencode(pairs, errors="surrogatepass").encode()
    ),
    st.binary(),
)
def test_no_query_at_all_is_more_than_a_fault(query: bytes, body: bytes) -> None:
    try:
        assert isinstance(read(query, body), dict)
    except EventFault as fault:
        assert fault.code == "invalid_pixel"


leaf = st.text(st.characters(codec="utf-8")) | st.lists(st.text(st.characters(codec="utf-8")), min_size=2, max_size=3)
keys = st.text("abcü", min_size=1)


# Fewer than a request may have.
@given(
    st.recursive(
        st.dictionaries(keys, leaf, min_size=1, max_size=4),
        lambda part: st.dictionaries(keys, part, min_size=1, max_size=4),
        max_leaves=20,
    )
)
def test_what_is_written_as_parameters_is_read_again(event: dict[str, Any]) -> None:
    pairs: list[tuple[str, str]] = []

    def write(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key, part in value.items():
                write(part, f"{path}.{key}" if path else key)
        else:
            pairs.extend((path, text) for text in (value if isinstance(value, list) else [value]))

    write(event, "")
    assert read(urlencode(pairs)) == event


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text(st.characters(codec="utf-8"))))
def test_what_is_written_as_data_is_read_again(event: dict[str, Any]) -> None:
    assert read(urlencode({"data": b64encode(json.dumps(event).encode())})) == event


# -- refused pixels ----------------------------------------------------------------------------------------------------


def refused(pairs: list[tuple[str, str]], source: Source = Source("website")) -> Any:  # noqa: B008
    return refuse_pixel(pairs, EventFault("invalid_pixel", "why"), source, datetime(2026, 11, 24, 17, tzinfo=UTC))


def test_a_refused_pixel_is_kept_with_its_reason_and_parameters_but_without_its_key() -> None:
    record = refused([("data", "!"), ("writeKey", "k"), ("name", "\udcff")])
    assert (record.source, record.code, record.message) == ("website", "invalid_pixel", "why")
    assert (record.received_at, record.message_id) == ("2026-11-24T17:00:00.000Z", None)
    assert json.loads(record.payload) == {"data": "!", "name": "\N{REPLACEMENT CHARACTER}"}


def test_what_nobody_can_read_is_not_kept_where_something_is_to_be_taken_out() -> None:
    assert refused([("data", "!")], Source("website", scrub=Scrub(remove=["traits.email"]))).payload == ""


def test_a_long_one_is_cut() -> None:
    record = refused([("data", "x" * 100_000)])
    assert (len(record.payload), record.message) == (MAX_PAYLOAD, "why; of its payload the first 32768 bytes are kept")
