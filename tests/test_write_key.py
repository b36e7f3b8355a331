from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventrouter.write_key import write_keys


def basic(text: str) -> bytes:
    return b"Basic " + b64encode(text.encode())


@pytest.mark.parametrize(
    ("authorization", "body", "query", "expected"),
    [
        (basic("key:"), {}, b"", ["key"]),
        (basic("key"), {}, b"", ["key"]),
        (basic("key:password"), {}, b"", ["key"]),
        (b"basic  " + b64encode(b"key1:").rstrip(b"="), {}, b"", ["key1"]),
        (b"", {"writeKey": "key"}, b"", ["key"]),
        (b"", {}, b"a=b&writeKey=k%20y", ["k y"]),
        (b"Bearer token", {"writeKey": "key"}, b"", ["key", "token"]),
        (b"Bearer key", None, b"", ["key"]),
        (basic("one:"), {"writeKey": "two"}, b"writeKey=three", ["one", "two", "three"]),
        (b"", {}, b"", []),
        (basic(":"), {"writeKey": ""}, b"writeKey=", []),
        (b"Basic \xff\xff", {"writeKey": 7}, b"\xff=%", []),
        (b"Basic", [], b"&" * 1000, []),
        (b"Digest abc", "writeKey", b"&".join([b"a=b"] * 1000), []),
    ],
)
def test_finds_the_write_keys_in_their_order(
    authorization: bytes, body: Any, query: bytes, expected: list[str]
) -> None:
    assert list(write_keys(authorization, body, query)) == expected


@given(st.binary() | st.binary().map(b"Basic ".__add__), st.none() | st.dictionaries(st.text(), st.text()), st.binary())
def test_never_fails(authorization: bytes, body: Any, query: bytes) -> None:
    assert all(isinstance(key, str) for key in write_keys(authorization, body, query))
