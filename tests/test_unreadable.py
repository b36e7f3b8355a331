"""What can't be read is kept, whole, once, with what is known of it."""

from __future__ import annotations

import base64

import pytest

from eventrouter.records import RejectedEvent, pack, unpack
from eventrouter.stored import UnreadableError
from eventrouter.unreadable import refusal

BYTES = '[1,"é" nonsense'.encode()


def test_it_is_kept_with_its_reason_and_when_it_came() -> None:
    record = refusal(UnreadableError("it is torn", BYTES, source="web", message_id="m1"), "0:crm", "1795539600123-4")
    assert record == RejectedEvent(
        id="unreadable_0:crm_1795539600123-4_0_" + record.id[-16:],
        source="web",
        received_at="2026-11-24T17:00:00.123Z",
        code="unreadable",
        message="it is torn",
        message_id="m1",
        payload=BYTES.decode(),
    )


@pytest.mark.parametrize("data", [b"\xff\x00", b"a\0b", b"", BYTES * 100_000])
def test_all_bytes_are_kept_and_can_be_stored(data: bytes) -> None:
    record = refusal(UnreadableError("x" * 2000, data), "0:log", "1-0")
    assert unpack(pack([record])) == [record]
    kept = record.payload
    decoded = base64.b64decode(kept.removeprefix("base64:")) if kept.startswith("base64:") else kept.encode()
    assert (decoded, len(record.message)) == (data, 500)


def test_its_id_is_the_same_at_every_try_and_another_for_another() -> None:
    one = UnreadableError("it is torn", BYTES)
    assert refusal(one, "0:log", "1-0", 1).id == refusal(one, "0:log", "1-0", 1).id
    places = [("0:log", "1-0", 0), ("1:log", "1-0", 0), ("0:crm", "1-0", 0), ("0:log", "2-0", 0), ("0:log", "1-0", 1)]
    others = [refusal(one, *place) for place in places] + [refusal(UnreadableError("", b""), *places[0])]
    assert len({record.id for record in others}) == 6
