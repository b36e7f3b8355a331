"""The kinds of columns, which values fit into them, and how a value is written there."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

TEXT: Final = "text"
BOOLEAN: Final = "boolean"
NUMBER: Final = "number"
"""A column whose first value was an integer: it holds integers of 64 bits and decimals, exactly."""
DOUBLE: Final = "double"
"""A column whose first value was a decimal number; an integer fits when a double holds it exactly."""
TIMESTAMP: Final = "timestamp"
INTEGER: Final = "integer"
"""A column that somebody else made as an integer: only integers fit."""

OTHER: Final = "other"
"""A column of a type that somebody else chose and that we do not write."""

Kind = str
"""One of the words above."""


class _Misfit:
    def __repr__(self) -> str:
        return "MISFIT"


MISFIT: Final = _Misfit()
"""What `fit` returns for a value that its column cannot hold as it is."""

Converter = Callable[[Any], Any]

_encode = msgspec.json.Encoder().encode

_TIME = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d(?::?\d\d)?)?)?", re.ASCII)


def read_time(text: str) -> str | None:
    """An ISO 8601 date or time as `2026-11-24T17:00:00.123Z` (UTC is assumed where no offset is given), else None.

    Microseconds are kept where there are any; what is finer than that is cut.
    """
    if text[4:5] != "-":
        return None
    try:
        if len(text) == 24 and text[7] + text[10] + text[19] + text[23] == "-T.Z":
            datetime.fromisoformat(text)
            return text
        if not _TIME.fullmatch(text):
            return None
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    spec = "microseconds" if moment.microsecond % 1000 else "milliseconds"
    return moment.replace(tzinfo=None).isoformat("T", spec) + "Z"


def to_json(value: Any) -> str:
    """`value` as compact JSON text. Raises what msgspec does for what JSON cannot hold."""
    return _encode(value).decode()


def to_text(value: Any) -> str | None:
    """`value` as a text column holds it: a string as it is, anything else as JSON; None stays None."""
    return value if value is None or type(value) is str else to_json(value)


def kind_of(value: Any) -> Kind:
    """The kind of a column whose first value is `value` (not None)."""
    type_ = type(value)
    if type_ is bool:
        return BOOLEAN
    if type_ is int:
        return NUMBER if -(2**63) <= value < 2**63 else TEXT
    if type_ is float:
        return DOUBLE
    if type_ is str and read_time(value) is not None:
        return TIMESTAMP
    return TEXT


def _integer(value: int) -> Any:
    return value if -(2**63) <= value < 2**63 else MISFIT


def _exact_double(value: int) -> Any:
    if -(2**53) <= value <= 2**53:
        return float(value)
    try:
        return float(value) if int(float(value)) == value else MISFIT
    except OverflowError:
        return MISFIT


def _finite(value: float) -> Any:
    return value if math.isfinite(value) else MISFIT


def _time(value: str) -> Any:
    return read_time(value) or MISFIT


def _same(value: Any) -> Any:
    return value


FITS: Final[dict[Kind, dict[type, Converter]]] = {
    TEXT: {str: _same, bool: to_json, int: to_json, float: to_json, list: to_json, dict: to_json},
    BOOLEAN: {bool: _same},
    NUMBER: {int: _integer, float: _finite},
    DOUBLE: {int: _exact_double, float: _finite},
    TIMESTAMP: {str: _time},
    INTEGER: {int: _integer},
    OTHER: {},
}
"""By kind and by the Python type of a JSON value: what writes it, or tells with `MISFIT` that it does not fit."""


def fit(kind: Kind, value: Any) -> Any:
    """`value` (not None) as a column of `kind` holds it, unchanged in meaning; `MISFIT` when it cannot."""
    converter = FITS[kind].get(type(value))
    return MISFIT if converter is None else converter(value)


def is_clean(json: bytes) -> bool:
    """False when JSON text may hold U+0000, which PostgreSQL cannot store; no other escape needs a look."""
    return b"\\u0000" not in json


def scrub(value: Any) -> Any:
    """`value` with U+0000 and lone surrogates, in keys too, replaced by U+FFFD: every database can hold the result."""
    if isinstance(value, str):
        value = value.replace("\0", "\ufffd")
        try:
            value.encode()
        except UnicodeEncodeError:
            # Through UTF-16, so that two halves of a pair become the character that they mean.
            value = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return value
    if isinstance(value, dict):
        return {scrub(key): scrub(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(item) for item in value]
    return value
