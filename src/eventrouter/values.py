"""The values that expressions compute with: JSON's, and `MISSING`; how they are read and made, with bounds."""

from __future__ import annotations

import math
from typing import Any

import msgspec

MAX_TEXT = 262_144
"""The most characters that a text made by an expression may have."""
MAX_ITEMS = 10_000
"""The most items that a list made by an expression may have."""
MAX_BITS = 4096
"""The largest whole number that arithmetic takes or makes, in bits."""

MAX_MADE = 1_000_000
"""The most that one evaluation of a condition or template may make in all, in characters and items (see `weight`)."""


class TemplateError(Exception):
    """A condition or a template failed at run time. `str(error)` says why and never holds a value of the event."""


class MismatchError(TemplateError):
    """A value has a type that the operator or filter has no meaning for."""


class Missing:
    """What a path leads to when nothing is there: falsy, and every comparison with it is false, `!=` too."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False

    def _false(self, other: object) -> bool:
        return False

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _false
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return "missing"


MISSING = Missing()

_KINDS = {
    bool: "true/false",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def kind(value: Any) -> str:
    """The type of `value` in words, for messages."""
    return _KINDS.get(type(value), "something else")


def same(a: Any, b: Any) -> bool:
    """Whether two values of which Python says `a == b` are equal: to Python true is 1, also deep within."""
    waiting = [(a, b)]
    while waiting:
        one, other = waiting.pop()
        if one is other:
            continue
        kind_of = type(one)
        if kind_of is list:
            waiting.extend(zip(one, other, strict=True))
        elif kind_of is dict:
            waiting.extend((value, other[key]) for key, value in one.items())
        elif (kind_of is bool) != (type(other) is bool):
            return False
    return True


def text_of(value: Any) -> str:
    """`value` as it stands in text: text as it is, everything else as in JSON (`true`, `9.5`, `{"a":1}`)."""
    if type(value) is str:
        return value
    data = msgspec.json.encode(value)
    if len(data) > 4 * MAX_TEXT:  # a character has four bytes at most
        raise TemplateError(f"makes a text of more than {MAX_TEXT:,} characters")
    return bounded_text(data.decode())


def weight(value: Any, most: int = MAX_MADE) -> int:
    """About the length of `value` as JSON, at most that, with all that is in it; it stops counting behind `most`.

    A list may hold one large value a thousand times: it is small, and what is made of it is not.
    """
    total, waiting = 0, [value]
    while waiting and total <= most:
        one = waiting.pop()
        kind_of = type(one)
        if kind_of is str:
            total += len(one) + 2
        elif kind_of is int:
            total += 1 + one.bit_length() // 4
        elif kind_of is list:
            total += 1 + len(one)
            waiting.extend(one)
        elif kind_of is dict:
            total += 1 + 4 * len(one) + sum(map(len, one))
            waiting.extend(one.values())
        else:
            total += 3
    return total


def bounded_text(text: str) -> str:
    """`text` itself, when it is not too long."""
    if len(text) > MAX_TEXT:
        raise TemplateError(f"makes a text of more than {MAX_TEXT:,} characters")
    return text


def bounded_list(items: list[Any]) -> list[Any]:
    """`items` itself, when it is not too long."""
    if len(items) > MAX_ITEMS:
        raise TemplateError(f"makes a list of more than {MAX_ITEMS:,} items")
    return items


def bounded_number(number: Any) -> Any:
    """`number` itself, when JSON can hold it and it is not too large."""
    if type(number) is int:
        if number.bit_length() > MAX_BITS:
            raise TemplateError("makes a number that is too large")
    elif not math.isfinite(number):
        raise TemplateError("makes a number that is too large")
    return number


def get(value: Any, key: Any) -> Any:
    """`value[key]`: of an object by name, of a list or a text by position (negative from its end), else MISSING."""
    if type(value) is dict:
        return value.get(key, MISSING) if type(key) is str else MISSING
    if type(key) is int and type(value) in (list, str):
        return value[key] if -len(value) <= key < len(value) else MISSING
    return MISSING


def cut(value: Any, start: Any, stop: Any) -> Any:
    """`value[start:stop]` of a list or a text; MISSING of anything else."""
    if type(value) not in (list, str) or MISSING in (start, stop):
        return MISSING
    if not (start is None or type(start) is int) or not (stop is None or type(stop) is int):
        raise MismatchError("cuts at something that is not a whole number")
    return value[start:stop]


def make_list(*items: Any) -> Any:
    """A list of `items`; MISSING when one of them is."""
    for item in items:
        if item is MISSING:
            return MISSING
    return list(items)


def make_object(keys: tuple[str, ...], *values: Any) -> Any:
    """An object of `keys` and `values`; MISSING when one of the values is."""
    for value in values:
        if value is MISSING:
            return MISSING
    return dict(zip(keys, values, strict=True))


def join_text(*parts: Any) -> Any:
    """The parts as one text; MISSING when one of them is missing or null."""
    for part in parts:
        if part is MISSING or part is None:
            return MISSING
    texts, size = [], 0
    for part in parts:
        texts.append(text_of(part))
        size += len(texts[-1])
        if size > MAX_TEXT:
            raise TemplateError(f"makes a text of more than {MAX_TEXT:,} characters")
    return "".join(texts)
