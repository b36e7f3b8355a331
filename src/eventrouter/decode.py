"""A request's body, read as JSON: strictly and fast, and once more with patience when that fails."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from .acceptance import BodyError

MAX_DEPTH = 100
"""How deep the objects and arrays of one event may be nested."""

_LONGEST_NUMBER = 4300
"""Digits after which Python refuses to read an integer (its guard against quadratic work)."""

_PART = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
"""A string, an opening or a closing bracket; possessive, so that no input makes it try twice."""

_SURROGATE = re.compile("[\ud800-\udfff]")

_decoder = msgspec.json.Decoder()


class Decoded(NamedTuple):
    """A body's JSON value, and how many of its values were replaced to make it JSON, by reason.

    Strings may hold lone surrogates, also in place of bytes that are not UTF-8: `mend_text` replaces them.
    """

    value: Any
    mended: Mapping[str, int]


def decode(body: bytes) -> Decoded:
    """Reads `body`. Integers keep their exact value, up to 4,300 digits; of a repeated key the last one counts.

    What a real client may send although JSON has no word for it is mended: NaN, Infinity, and numbers that are too
    large become null and are counted. Nesting may be cut, but so that the event is still seen to be too deep.
    Raises `BodyError` for everything else.
    """
    try:
        return Decoded(_decoder.decode(body), {})
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decode_patiently(body)


def depth(value: Any) -> int:
    """How deep objects and arrays are nested in `value`; 0 for a plain value. Works at any depth."""
    level = 0
    values = [value]
    while values := [value for value in values if isinstance(value, dict | list)]:
        level += 1
        values = [part for value in values for part in (value.values() if isinstance(value, dict) else value)]
    return level


def mend_text(value: Any) -> tuple[Any, int]:
    """A copy of `value` (of moderate depth) with U+FFFD for each lone surrogate, and the number of these."""
    count = 0

    def mend(value: Any) -> Any:
        nonlocal count
        if isinstance(value, str):
            value, found = _SURROGATE.subn("\N{REPLACEMENT CHARACTER}", value)
            count += found
            return value
        if isinstance(value, dict):
            return {mend(key): mend(part) for key, part in value.items()}
        if isinstance(value, list):
            return [mend(part) for part in value]
        return value

    return mend(value), count


def _decode_patiently(body: bytes) -> Decoded:
    mended: Counter[str] = Counter()

    def constant(_: str) -> None:
        mended["not_a_number"] += 1

    def integer(digits: str) -> int | None:
        if len(digits) <= _LONGEST_NUMBER:
            return int(digits)
        mended["number_too_large"] += 1
        return None

    def real(digits: str) -> float | None:
        number = float(digits)
        if math.isfinite(number):
            return number
        mended["number_too_large"] += 1
        return None

    text = body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    if text.count("[") + text.count("{") > MAX_DEPTH:
        text = _without_depths(text)
    try:
        value = json.loads(text, parse_constant=constant, parse_int=integer, parse_float=real)
    except json.JSONDecodeError as error:
        where = f"{error.msg} (character {error.pos})" if text else "it is empty"
        raise BodyError("invalid_json", f"the body is not JSON: {where}") from None
    except (ValueError, RecursionError):
        raise BodyError("invalid_json", "the body is not JSON that can be read") from None
    return Decoded(value, mended)


def _without_depths(text: str) -> str:
    """`text` with 0 in place of what is nested deeper than any event may be."""
    bottom = MAX_DEPTH + 10  # the body and its batch are nesting too
    level = 0
    pieces = []
    kept = 0
    for part in _PART.finditer(text):
        mark = part[0][0]
        if mark in "[{":
            level += 1
            if level == bottom + 1:
                pieces.append(text[kept : part.start()] + "0")
        elif mark in "]}":
            if level == bottom + 1:
                kept = part.end()
            level -= 1
    if level <= bottom:
        pieces.append(text[kept:])
    return "".join(pieces)
