"""JSON merge patches (RFC 7396): what an enrichment says about one event."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_is_ascii = str.isascii


def merged(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """A new object: `target` with `patch`, in which objects are merged, null removes and all else replaces.

    Neither is changed, and nothing that can be changed is shared with `patch`, so that it may be used again. Raises
    `TypeError`, `ValueError` or `RecursionError` for a patch that is not JSON.
    """
    result = dict(target)
    for key, value in patch.items():
        kind = type(value)
        if not _is_ascii(key):  # raises for what is not a text
            key.encode()
        if kind is str:
            if not _is_ascii(value):
                value.encode()  # raises for a lone surrogate
            result[key] = value
        elif kind is dict:
            old = result.get(key)
            result[key] = merged(old if type(old) is dict else {}, value)
        elif value is None:
            result.pop(key, None)
        elif kind is bool or kind is int:
            result[key] = value
        elif kind is float:
            if not isfinite(value):
                raise ValueError(f"{key!r} is not a finite number")
            result[key] = value
        else:  # lists, and what msgspec writes as JSON: tuples, times, …
            result[key] = _decode(_encode(value))
    return result
