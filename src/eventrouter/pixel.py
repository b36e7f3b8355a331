"""Events that come in the URL of a picture, from where no script runs: e-mails, AMP pages, pages without JavaScript."""

from __future__ import annotations

from base64 import b64decode
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from .acceptance import BodyError
from .answer import Answer
from .decode import Decoded, decode, mend_text
from .events import Event
from .records import RejectedEvent, cut_payload, rejection_id
from .source import Source
from .times import utc, write_time
from .validation import EventFault

MAX_FIELDS = 1000
"""How many parameters one pixel may have."""
MAX_SEGMENTS = 20
"""How deep a parameter's name may reach."""

PIXEL = Answer(
    200,
    b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"),
    (
        (b"content-type", b"image/gif"),
        (b"cache-control", b"no-store"),
        (b"cross-origin-resource-policy", b"cross-origin"),
    ),
)
"""One transparent pixel, whatever became of the event: a page or an e-mail shows it, and can't do anything else."""

Pairs = list[tuple[str, str]]

_BASE64 = str.maketrans(" -_", "++/", "\r\n\t")


def read_pairs(query: bytes, body: bytes = b"") -> Pairs:
    """The parameters of a query and of a form that was posted. Raises `BodyError`."""
    try:
        return [
            pair
            for text in (query, body)
            for pair in parse_qsl(
                text.decode("utf-8", "surrogateescape"),
                keep_blank_values=True,
                errors="surrogateescape",
                max_num_fields=MAX_FIELDS,
            )
        ]
    except ValueError:
        raise BodyError("too_many_fields", f"the pixel has more than {MAX_FIELDS} parameters") from None


def read_pixel(pairs: Pairs) -> Decoded:
    """The event that `pairs` say: what `data=` holds (JSON in base64 of either alphabet), and dotted parameters.

    `properties.total=5` is always a text, since a query does not tell 5 from "5": `data=` does. A parameter that is
    repeated (`properties.tags=a&properties.tags=b`) or counted (`properties.items.0.sku=…`) makes an array. A
    parameter replaces what `data=` holds at its place. Raises `EventFault`.
    """
    data: list[str] = []
    tree: dict[str, Any] = {}
    for name, text in pairs:
        if name == "data":
            data.append(text)
        else:
            _plant(tree, name.split("."), text)
    if len(data) > 1:
        raise EventFault("invalid_pixel", "the pixel has more than one `data`")
    event, mended = _decode(data[0]) if data else Decoded({}, {})
    return Decoded(_merge(event, {name: _grown(part) for name, part in tree.items()}), mended)


def refuse_pixel(pairs: Pairs, fault: EventFault, source: Source, received_at: datetime) -> RejectedEvent:
    """The record of a pixel that holds no event that can be read."""
    # What nobody can read nobody can scrub.
    said = {} if source.scrub else {name: text for name, text in pairs if name != "writeKey"}
    payload, cut = cut_payload(msgspec.json.encode(mend_text(said)[0])) if said else ("", "")
    return RejectedEvent(
        id=rejection_id(source.name, fault.code, None, payload),
        source=source.name,
        received_at=write_time(utc(received_at)),
        code=fault.code,
        message=f"{fault}{cut}",
        payload=payload,
    )


def _decode(text: str) -> Decoded:
    """Undoes base64 of either alphabet, padded or not, in lines or not; a `+` that was not escaped is a space here."""
    text = text.translate(_BASE64).rstrip("=")
    try:
        decoded = decode(b64decode(text + "=" * (-len(text) % 4), validate=True))
    except ValueError:
        raise EventFault("invalid_pixel", "`data` is not base64") from None
    except BodyError:
        raise EventFault("invalid_pixel", "`data` does not hold JSON") from None
    if not isinstance(decoded.value, dict):
        raise EventFault("invalid_pixel", "`data` does not hold a JSON object")
    return decoded


def _plant(tree: dict[str, Any], keys: list[str], text: str) -> None:
    if len(keys) > MAX_SEGMENTS:
        raise EventFault("invalid_pixel", f"the name of a parameter has more than {MAX_SEGMENTS} parts")
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            break
    texts = tree.setdefault(keys[-1], []) if isinstance(tree, dict) else None
    if not isinstance(texts, list):
        raise EventFault("invalid_pixel", "a parameter of the pixel is a value and an object at once")
    texts.append(text)


def _grown(part: dict[str, Any] | list[str]) -> Any:
    """A value from its texts, an array from keys that are 0, 1, 2 …, else an object."""
    if isinstance(part, list):
        return part[0] if len(part) == 1 else part
    if all(str(index) in part for index in range(len(part))):
        return [_grown(part[str(index)]) for index in range(len(part))]
    return {key: _grown(value) for key, value in part.items()}


def _merge(event: Event, more: dict[str, Any]) -> Event:
    for key, value in more.items():
        own = event.get(key)
        event[key] = _merge(own, value) if isinstance(own, dict) and isinstance(value, dict) else value
    return event
