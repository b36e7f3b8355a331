import gzip
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventrouter.acceptance import BodyError
from eventrouter.inflate import inflate

BODY = b'{"batch":[]}'
LIMIT = 1000
raw = zlib.compressobj(wbits=-15)
RAW = raw.compress(BODY) + raw.flush()


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "", "identity", "br"])
def test_gzip_is_unpacked_whatever_the_header_says(encoding: str) -> None:
    assert inflate(gzip.compress(BODY, mtime=0), encoding, LIMIT) == BODY


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "", "identity"])
def test_plain_json_is_taken_whatever_the_header_says(encoding: str) -> None:
    assert inflate(BODY, encoding, LIMIT) == BODY


@pytest.mark.parametrize("body", [zlib.compress(BODY), RAW])
def test_deflate_is_unpacked_with_and_without_its_header(body: bytes) -> None:
    assert inflate(body, "deflate", LIMIT) == BODY


def test_several_streams_and_padding_are_one_body() -> None:
    assert inflate(gzip.compress(b'{"a"', mtime=0) + gzip.compress(b":1}") + b"\0\0", "gzip", LIMIT) == b'{"a":1}'


def code_of(body: bytes, encoding: str = "gzip", limit: int = LIMIT) -> tuple[str, int]:
    with pytest.raises(BodyError) as caught:
        inflate(body, encoding, limit)
    return caught.value.code, caught.value.status


@pytest.mark.parametrize(
    "body",
    [
        b"\x1f\x8b",
        b"\x1f\x8bgarbage",
        gzip.compress(BODY, mtime=0)[:-1],
        gzip.compress(BODY, mtime=0) + b"x",
        b"nonsense",
        gzip.compress(b"", mtime=0) * 65,
        gzip.compress(BODY, mtime=0)[:-8] + b"\x00" * 8,
    ],
)
def test_broken_gzip_is_a_bad_request(body: bytes) -> None:
    assert code_of(body) == ("invalid_encoding", 400)


@pytest.mark.parametrize("body", [b"x", zlib.compress(BODY)[:-1]])
def test_broken_deflate_is_a_bad_request(body: bytes) -> None:
    assert code_of(body, "deflate") == ("invalid_encoding", 400)


def test_another_encoding_is_named_unsupported() -> None:
    assert code_of(b"\x8b\x00", "br") == ("unsupported_encoding", 415)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(gzip.compress(BODY)), "gzip, gzip"),
        (gzip.compress(gzip.compress(BODY)), "gzip"),
        (gzip.compress(zlib.compress(BODY)), "deflate, gzip"),
        (gzip.compress(zlib.compress(BODY)), "deflate,identity,gzip"),
        (zlib.compress(gzip.compress(BODY)), "gzip, deflate"),
        (b"\x8b\x00", "br, gzip"),
    ],
)
def test_several_encodings_are_refused(body: bytes, encoding: str) -> None:
    with pytest.raises(BodyError, match="Content-Encoding has to be gzip") as caught:
        inflate(body, encoding, LIMIT)
    assert (caught.value.code, caught.value.status) == ("unsupported_encoding", 415)


@pytest.mark.parametrize("encoding", ["gzip, gzip", "gzip, identity", "identity, gzip"])
def test_several_encodings_that_were_one_are_taken(encoding: str) -> None:
    assert inflate(gzip.compress(b" " + BODY, mtime=0), encoding, LIMIT) == b" " + BODY


def test_the_limit_holds_for_what_is_unpacked() -> None:
    assert len(inflate(gzip.compress(b"x" * LIMIT, mtime=0), "gzip", LIMIT)) == LIMIT
    assert code_of(gzip.compress(b"x" * (LIMIT + 1), mtime=0)) == ("too_large", 413)
    assert code_of(gzip.compress(b"x" * LIMIT, mtime=0) + gzip.compress(b"x")) == ("too_large", 413)
    assert code_of(zlib.compress(b"x" * (LIMIT + 1)), "deflate") == ("too_large", 413)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(gzip.compress(b"\0" * 50_000_000) + b"\0" * 50_000_000, mtime=0)
    start = time.monotonic()
    assert code_of(bomb, limit=500 * 1024) == ("too_large", 413)
    assert code_of(gzip.compress(b"", mtime=0) * 25_000, limit=500 * 1024) == ("invalid_encoding", 400)
    assert time.monotonic() - start < 1


@given(st.binary() | st.binary().map(b"\x1f\x8b\x08".__add__), st.sampled_from(["gzip", "deflate", "", "br"]))
def test_any_bytes_are_unpacked_or_refused(body: bytes, encoding: str) -> None:
    try:
        assert len(inflate(body, encoding, LIMIT)) <= LIMIT
    except BodyError as error:
        assert error.status in (400, 413, 415)
