"""How a value differs from what was expected of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from .values import MISSING


class Difference(NamedTuple):
    """A place at which two values differ; MISSING on the side that has nothing there."""

    path: str
    """`properties.items[0].id`; empty for the value as a whole."""
    expected: Any
    actual: Any


def differences(
    expected: Any, actual: Any, *, exact: bool = False, written: bool = False, path: str = ""
) -> Iterator[Difference]:
    """Every place at which `actual` isn't what `expected` says, in the order of `expected`.

    Objects in `actual` may have more keys, unless `exact`; and null then also stands for a key that is not there. Lists
    have to be of one length. Numbers are equal by value (2 and 2.0), unless they have to be `written` alike; true and 1
    are not.
    """
    if type(expected) is dict and type(actual) is dict:
        for key, value in expected.items():
            found = actual.get(key, MISSING)
            if found is value:  # payloads share what was not changed
                continue
            inner = f"{path}.{key}" if path else str(key)
            if found is MISSING and (value is not None or exact):
                yield Difference(inner, value, MISSING)
            elif found is not MISSING:
                yield from differences(value, found, exact=exact, written=written, path=inner)
        if exact:
            for key, value in actual.items():
                if key not in expected:
                    yield Difference(f"{path}.{key}" if path else str(key), MISSING, value)
    elif type(expected) is list and type(actual) is list and len(expected) == len(actual):
        for index, (one, other) in enumerate(zip(expected, actual, strict=True)):
            yield from differences(one, other, exact=exact, written=written, path=f"{path}[{index}]")
    elif (
        isinstance(expected, bool) != isinstance(actual, bool)
        or expected != actual
        or (written and repr(expected) != repr(actual))
    ):
        yield Difference(path, expected, actual)


def shown(difference: Difference) -> Iterator[tuple[str, str, str]]:
    """The lines of a difference, as in a diff: `-` what was expected, `+` what is there; with a colour each."""
    for sign, value, colour in (("-", difference.expected, "red"), ("+", difference.actual, "green")):
        if value is not MISSING:
            text = msgspec.json.encode(value).decode()
            yield sign, f"{difference.path}: {text}" if difference.path else text, colour
