"""An entry of the spool: what comes out is what went in, or nothing."""

from __future__ import annotations

import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventrouter.acceptance import AcceptedEvent
from eventrouter.spool_entry import decode_spooled, encode_spooled
from spool_kit import event, rejected

EVENTS = [event(1, "clé 🔑", properties={"big": 12345678901234567890123, "text": "é\0"}), event(2, "")]
REJECTED = [rejected(1, payload='{"type": 3}'), rejected(2)]


def test_events_and_refusals_come_back_as_they_were():
    entry = decode_spooled(encode_spooled(EVENTS, REJECTED))
    assert (EVENTS, REJECTED) == (entry.events, entry.rejected)
    assert all(isinstance(one, AcceptedEvent) for one in entry.events)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_is_noticed(position, change):
    data = bytearray(encode_spooled(EVENTS, REJECTED))
    data[position % len(data)] ^= change
    with pytest.raises(msgspec.DecodeError):
        decode_spooled(bytes(data))


@given(st.integers(0, 10_000))
def test_a_missing_end_is_noticed(length):
    data = encode_spooled(EVENTS, REJECTED)
    with pytest.raises(msgspec.DecodeError):
        decode_spooled(data[: length % len(data)])


@pytest.mark.parametrize(("version", "readable"), [(0, True), (2, True), (3, False)])
def test_neighbouring_versions_are_read(version, readable):
    body = msgspec.msgpack.encode([[], [], version])
    data = zlib.crc32(body).to_bytes(4, "big") + body
    if readable:
        assert [] == decode_spooled(data).events
    else:
        with pytest.raises(msgspec.ValidationError, match="this version reads"):
            decode_spooled(data)
