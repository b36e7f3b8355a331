"""Digests that stand for personal data: the same value and secret always give the same one, and it leads back to none.

Routes and the scrubbing of sources make the same digests.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

import msgspec


def digest_with(salt: str) -> Callable[[Any], Any]:
    """HMAC-SHA256 of a value's text as 64 hex digits; null stays null, what is no text counts as its JSON.

    The text counts as it is: `Ada@x.org` and `ada@x.org` have different digests. Raises `UnicodeEncodeError` for an
    object or list that holds a lone surrogate, `RecursionError` for one that is nested too deeply.
    """
    key = salt.encode()

    def digest(value: Any) -> Any:
        if value is None:
            return None
        if type(value) is str:
            text = value.encode("utf-8", "surrogatepass")
        else:
            text = msgspec.json.encode(value, order="sorted")
        return hmac.digest(key, text, "sha256").hex()

    return digest
