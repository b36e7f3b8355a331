"""The parts of a condition: what stands between its `and`, `or` and `not`, for showing why it is true or false."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .syntax import words

BRACKETS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}


class Part(NamedTuple):
    """A condition, or a part of one."""

    text: str
    joined: str = ""
    """`and`, `or` or `not`: what joins `parts`; empty for a part that isn't divided further."""
    parts: tuple[Part, ...] = ()


class _Word(NamedTuple):
    offset: int
    text: str
    depth: int
    """In how many brackets it stands."""
    joins: bool
    """Whether it is `and`, `or` or `if` itself, rather than a name behind a dot, as in `properties.or`."""


def divide(text: str) -> Part:
    """The parts of a valid condition; `a if b else c` is one part. Raises `ExpressionError` for an invalid one."""
    found: list[_Word] = []
    depth = 0
    before = ""
    for offset, word in words(text):
        step = BRACKETS.get(word, 0)
        depth += min(step, 0)
        found.append(_Word(offset, word, depth, word in ("and", "or", "if") and before != "."))
        depth += max(step, 0)
        before = word
    return _divided(text, found)


def _divided(text: str, found: Sequence[_Word]) -> Part:
    begin, end = found[0].offset, found[-1].offset + len(found[-1].text)
    whole, level = text[begin:end], found[0].depth
    plain = [word.text for word in found if word.depth == level and word.joins]
    if "if" in plain:
        return Part(whole)
    for joined in ("or", "and"):
        if joined in plain:
            return Part(whole, joined, tuple(_divided(text, some) for some in _split(found, joined, level)))
    if found[0].text == "not":
        return Part(whole, "not", (_divided(text, found[1:]),))
    inner = found[1:-1]
    within = found[0].text == "(" and found[-1].text == ")" and all(word.depth > level for word in inner)
    # `()` and `(a, b)` are lists.
    if within and inner and not any(word.text == "," and word.depth == inner[0].depth for word in inner):
        return _divided(text, inner)
    return Part(whole)


def _split(found: Sequence[_Word], joined: str, level: int) -> list[list[_Word]]:
    some: list[list[_Word]] = [[]]
    for word in found:
        if word.joins and word.text == joined and word.depth == level:
            some.append([])
        else:
            some[-1].append(word)
    return some
