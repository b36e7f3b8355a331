"""Stored forms: this version and its neighbours read them; a newer one waits, all else is nobody's."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from eventrouter.stored import Form, NewerFormatError, UnreadableError


class Thing(msgspec.Struct):
    n: int
    v: int = 3


class Row(msgspec.Struct, array_like=True):
    v: int
    n: int


THINGS = Form("a thing", Thing, 3)
ROWS = Form("a row", Row, 3)


@pytest.mark.parametrize("version", [2, 3, 4])
def test_a_neighbours_form_is_read(version: int) -> None:
    assert THINGS.read(msgspec.json.encode({"n": 2**70, "v": version})) == Thing(2**70, version)
    assert ROWS.read(msgspec.json.encode([version, 1, "a later field"])) == Row(version, 1)


@pytest.mark.parametrize("data", [b'{"n":1,"v":5}', b'{"n":"another type","v":4}', b'{"v":5}'])
def test_what_a_newer_version_has_written_waits(data: bytes) -> None:
    with pytest.raises(NewerFormatError, match=r"a thing of format [45]: this version reads 2 to 4"):
        THINGS.read(data)


@pytest.mark.parametrize("data", [b"[5,1]", b'[4,"another type"]', b"[9]"])
def test_what_a_newer_version_has_written_in_a_row_waits(data: bytes) -> None:
    with pytest.raises(NewerFormatError):
        ROWS.read(data)


DEEP = b'{"n":' + b"[" * 100_000


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"\xff", b'{"n":"\xff"}', b"{}", b'{"v":3}', b'{"n":1,"v":1}', b'{"n":"x","v":3}', DEEP, b"[3,1]"],
)
def test_what_no_version_reads_comes_with_its_bytes(data: bytes) -> None:
    with pytest.raises(UnreadableError) as caught:
        THINGS.read(data)
    assert (data, "", None) == (caught.value.data, caught.value.source, caught.value.message_id)


@pytest.mark.parametrize("kind", [UnreadableError, NewerFormatError])
def test_either_is_an_error_of_decoding(kind: Any) -> None:
    assert issubclass(kind, msgspec.DecodeError)
