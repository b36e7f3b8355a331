import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventrouter.acceptance import BodyError
from eventrouter.decode import MAX_DEPTH, Decoded, decode, depth, mend_text

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda parts: st.lists(parts) | st.dictionaries(st.text(), parts),
    max_leaves=20,
)


@given(json_values)
def test_reads_every_json_value_exactly(value: Any) -> None:
    assert decode(json.dumps(value).encode()) == Decoded(value, {})


@given(st.text(st.characters()), st.integers())
def test_reads_them_exactly_beside_a_nan_too(text: str, number: int) -> None:
    body = json.dumps([float("nan"), text, number, 0.1]).encode()
    assert decode(body) == Decoded([None, text, number, 0.1], {"not_a_number": 1})


@pytest.mark.parametrize("digits", ["9007199254740993", "18446744073709551616", "-" + "9" * 400])
def test_integers_beyond_64_bits_stay_exact(digits: str) -> None:
    assert decode(f'{{"a":{digits}}}'.encode()).value == {"a": int(digits)}
    assert decode(f'{{"a":{digits},"b":NaN}}'.encode()).value == {"a": int(digits), "b": None}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("NaN", "not_a_number"),
        ("Infinity", "not_a_number"),
        ("-Infinity", "not_a_number"),
        ("1e400", "number_too_large"),
        ("-1e400", "number_too_large"),
        ("9" * 5000, "number_too_large"),
    ],
    ids=lambda text: text[:12],
)
def test_numbers_that_json_cannot_hold_become_null_and_are_counted(text: str, reason: str) -> None:
    assert decode(f'{{"a":{text},"b":[1,{text}]}}'.encode()) == Decoded({"a": None, "b": [1, None]}, {reason: 2})


@pytest.mark.parametrize(("body", "expected"), [(rb'{"a":"\ud800x"}', "\ud800x"), (b'{"a":"\xffx"}', "\udcffx")])
def test_what_is_not_unicode_is_left_for_mending(body: bytes, expected: str) -> None:
    assert decode(body).value == {"a": expected}


def test_a_surrogate_pair_is_one_character() -> None:
    assert decode(rb'{"a":"\ud83d\ude00","b":"\ud83d"}').value == {"a": "😀", "b": "\ud83d"}


def test_a_byte_order_mark_is_skipped() -> None:
    assert decode(b'\xef\xbb\xbf{"a":1}').value == {"a": 1}


def test_of_a_repeated_key_the_last_one_counts() -> None:
    assert decode(b'{"a":1,"a":2}').value == {"a": 2}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is not JSON: it is empty"),
        (b'{"a":1', "the body is not JSON: Expecting ',' delimiter (character 6)"),
        (b"{} x", "the body is not JSON: Extra data (character 3)"),
        (b'{"a":NaN,', "the body is not JSON: Expecting property name enclosed in double quotes (character 9)"),
        (b"\x1f\x8b\x00", "the body is not JSON: Expecting value (character 0)"),
    ],
)
def test_what_is_not_json_is_refused_with_its_place(body: bytes, message: str) -> None:
    with pytest.raises(BodyError) as caught:
        decode(body)
    assert ("invalid_json", 400, message) == (caught.value.code, caught.value.status, str(caught.value))


@pytest.mark.parametrize("levels", [990, 5000, 200_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_a_part_that_is_nested_too_deeply_costs_its_neighbours_nothing(levels: int, opening: str, closing: str) -> None:
    deep = opening * levels + "1" + closing * levels
    value = decode(f'{{"batch":[{{"good":"}}]{{["}},{{"p":{deep}}},{{"good":2}}]}}'.encode()).value
    assert [value["batch"][0], value["batch"][2]] == [{"good": "}]{["}, {"good": 2}]
    assert depth(value["batch"][1]) > MAX_DEPTH


@pytest.mark.parametrize(
    "body", [b"[" * 500_000, b'{"a":' * 100_000, b'"' + b'\\"' * 250_000, b"[" * 200 + b'\\"' * 200_000]
)
def test_malformed_bodies_of_full_size_are_refused_quickly(body: bytes) -> None:
    start = time.monotonic()
    with pytest.raises(BodyError):
        decode(body)
    assert time.monotonic() - start < 2


@given(st.binary())
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        decode(body)
    except BodyError as error:
        assert error.status == 400


@pytest.mark.parametrize(("value", "levels"), [(1, 0), ([], 1), ({"a": [1, {"b": 2}]}, 3)])
def test_depth_counts_objects_and_arrays(value: Any, levels: int) -> None:
    assert depth(value) == levels


def test_mend_text_replaces_and_counts_lone_surrogates_in_keys_and_values() -> None:
    assert mend_text({"a\ud800": ["\udfffb", 1, None, "😀"]}) == ({"a\ufffd": ["\ufffdb", 1, None, "😀"]}, 2)
