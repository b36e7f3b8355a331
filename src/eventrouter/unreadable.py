"""What can't be read any more, kept for a person: its bytes and the reason go to `rejected_events`."""

from __future__ import annotations

import base64
import hashlib
from datetime import timedelta

from .records import RejectedEvent
from .stored import UnreadableError
from .times import EPOCH, write_time

CODE = "unreadable"
"""The code of its row in `rejected_events`, and the class under which it is counted as dead."""


def refusal(error: UnreadableError, lane: str, item: str, part: int = 0) -> RejectedEvent:
    """The record of what `error` is about: the item with this id in `lane`, or a part of it. The same at every try."""
    digest = hashlib.blake2b(error.data, digest_size=8).hexdigest()
    return RejectedEvent(
        id=f"{CODE}_{lane}_{item}_{part}_{digest}",
        source=error.source,
        received_at=write_time(EPOCH + timedelta(milliseconds=int(item.split("-")[0]))),
        code=CODE,
        message=str(error)[:500],
        message_id=error.message_id,
        payload=_as_text(error.data),
    )


def _as_text(data: bytes) -> str:
    """All of it: as text where it is text, else in base64, which databases take."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    return "base64:" + base64.b64encode(data).decode() if "\0" in text else text
