"""The shapes that values of the rules have, as parts of a JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

VARIABLE: Schema = {"type": "string", "pattern": r"\$\{"}
"""A variable may stand for any plain value."""

TEXT: Schema = {"type": "string"}


def described(about: str) -> Schema:
    """A description, where there is one."""
    return {"description": about} if about else {}


def object_of(
    properties: Mapping[str, Schema], about: str = "", *, required: tuple[str, ...] = (), needed: bool = False
) -> Schema:
    """An object with these keys and no others; or null, unless it is `needed`."""
    # Null is what an editor makes of a key without a value: `check` takes it for what isn't there.
    made: Schema = {
        "type": "object" if needed else ["object", "null"],
        **described(about),
        "properties": dict(properties),
        "additionalProperties": False,
    }
    return {**made, "required": list(required)} if required else made


def named(schema: Schema, about: str) -> Schema:
    """An object of any names, each with a value of this shape."""
    return {"type": ["object", "null"], "description": about, "additionalProperties": schema}


def list_of(schema: Schema, about: str = "") -> Schema:
    """A list of values of this shape."""
    return {"type": ["array", "null"], **described(about), "items": schema}


def text(about: str) -> Schema:
    """A text."""
    return {**TEXT, **described(about)}


def texts(about: str) -> Schema:
    """A text, or a list of texts."""
    return {**described(about), "anyOf": [TEXT, {"type": ["array", "null"], "items": TEXT}]}


def condition(about: str) -> Schema:
    """A condition, true or false."""
    return {
        **described(about),
        "type": ["string", "boolean"],
        "examples": ['type == "track" and properties.total > 10'],
    }


def flag(about: str = "") -> Schema:
    """true or false."""
    return {**described(about), "anyOf": [{"type": "boolean"}, VARIABLE]}


def number(about: str) -> Schema:
    """A whole number."""
    return {**described(about), "anyOf": [{"type": "integer", "minimum": 0}, VARIABLE]}


def duration(about: str) -> Schema:
    """A duration."""
    return {**described(about), "type": ["string", "number"], "examples": ["250ms", "1s", "5m", "72h"]}


def size(about: str) -> Schema:
    """A number of bytes."""
    return {**described(about), "type": ["string", "number"], "examples": ["64KB", "256MB", "1GB"]}


def url(about: str) -> Schema:
    """An object with a URL."""
    return object_of(
        {"url": {"type": ["string", "null"], "examples": ["postgresql://user:password@host/database"]}}, about
    )
