"""log_entry.py: events of a write, in the order of acceptance."""

from __future__ import annotations

import msgspec
import pytest

from eventrouter.events import StoredEvent
from eventrouter.log_entry import decode_entry, encode_entry


def test_an_entry_gives_back_its_events_in_order() -> None:
    events = [StoredEvent("website", {"messageId": str(number), "big": 2**70}) for number in range(3)]
    assert decode_entry(encode_entry([msgspec.json.encode(event) for event in events])) == events


@pytest.mark.parametrize("data", [b"", b"[]", b'{"v":1}', b'{"v":99,"events":[]}', b'{"events":"x"}'])
def test_an_entry_that_this_version_cannot_read_is_an_error(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_entry(data)
