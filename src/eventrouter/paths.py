"""Dotted paths (`properties.total`, `context["my.key"].id`) and what a route does at them; nothing is ever mutated.

Each function returns a new value that shares with the old one the parts that it did not touch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from .values import MISSING, TemplateError, kind

Path = tuple[str, ...]
Tree = dict[str, Any]
"""Paths as nested dicts; a leaf is the position of its path in the sequence that the tree was made of."""

MAX_SEGMENTS = 20

_SEGMENT = re.compile(r"""(?:^|\.)([^.\[\]"'\s][^.\[\]"']*)|\["([^"]+)"\]|\['([^']+)'\]""")

_WILDCARD = re.compile(r"(?:^|\.)(\*+)(?=[.\[]|\Z)")


class PathError(ValueError):
    """A text is no path: `str(error)` says why (a verb phrase), `hint` what to write."""

    hint = 'write properties.total, or properties["a.b"] where a key has a dot'


def parse(text: str, *, wildcards: bool = False) -> Path:
    """The keys of a path, of which one may be `*` where there are `wildcards`. Raises `PathError`."""
    if "{{" in text:
        raise _fault("has a template in it", "only values are templates: write the path itself")
    if not wildcards and (wildcard := _WILDCARD.search(text)):
        hint = "name each key, or the object that holds them; into each item of a list a path goes by itself"
        raise _fault(f"has a `{wildcard[1]}`, which stands for no other key", hint)
    keys: list[str] = []
    position = 0
    while position < len(text):
        match = _SEGMENT.match(text, position)
        if match is None or (position == 0 and text[0] == "."):
            raise PathError(f"is not a path at character {position + 1}")
        keys.append(next(group for group in match.groups() if group is not None))
        position = match.end()
    if not keys:
        raise PathError("is an empty path")
    if len(keys) > MAX_SEGMENTS:
        raise PathError(f"has more than {MAX_SEGMENTS} keys")
    return tuple(keys)


def _fault(message: str, hint: str) -> PathError:
    fault = PathError(message)
    fault.hint = hint
    return fault


def tree_of(paths: Sequence[Path]) -> Tree:
    """The tree of `paths`. Raises `ValueError` when one lies inside of another or comes twice."""
    root: Tree = {}
    for position, path in enumerate(paths):
        node = root
        for key in path[:-1]:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise ValueError(f"`{'.'.join(path)}` lies inside of `{'.'.join(paths[node])}`")
        if path[-1] in node:
            raise ValueError(f"`{'.'.join(path)}` comes twice or has another path inside of it")
        node[path[-1]] = position
    return root


def keep(value: Any, tree: Tree) -> Any:
    """Only what lies at the tree's paths; in a list, at the paths of each item."""
    if type(value) is dict:
        kept: dict[str, Any] = {}
        for key, inner in tree.items():
            child = value.get(key, MISSING)
            if type(inner) is dict:
                child = keep(child, inner)
            if child is not MISSING:
                kept[key] = child
        return kept
    if type(value) is list:
        return [child for item in value if (child := keep(item, tree)) is not MISSING]
    return MISSING


def change(value: Any, tree: Tree, how: Callable[[Any], Any]) -> Any:
    """The value with `how(part)` for each part at the tree's paths, in each item of a list; MISSING takes it out."""
    if type(value) is dict:
        changed = None
        for key, inner in tree.items():
            child = value.get(key, MISSING)
            if child is MISSING:
                continue
            new = change(child, inner, how) if type(inner) is dict else how(child)
            if new is not child:
                if changed is None:
                    changed = value.copy()
                if new is MISSING:
                    del changed[key]
                else:
                    changed[key] = new
        return value if changed is None else changed
    if type(value) is list:
        items = [change(item, tree, how) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value


def drop(value: Any, tree: Tree) -> Any:
    """The value without what lies at the tree's paths; in a list, at the paths of each item."""
    return change(value, tree, lambda part: MISSING)


def put(value: Any, tree: Tree, values: Sequence[Any], at: str = "") -> Any:
    """The object with `values` at the tree's paths; MISSING ones are left out. Objects on the way are made.

    Raises `TemplateError` where something on the way is neither an object nor null.
    """
    if value is MISSING or value is None:
        changed: dict[str, Any] = {}
    elif type(value) is dict:
        changed = value.copy()
    else:
        raise TemplateError(f"can't set a key inside of `{at}`, which is {kind(value)}")
    for key, inner in tree.items():
        if type(inner) is dict:
            child = put(changed.get(key, MISSING), inner, values, f"{at}.{key}" if at else key)
            if child is not MISSING:
                changed[key] = child
        elif values[inner] is not MISSING:
            changed[key] = values[inner]
    return changed if changed or type(value) is dict else value


def find(value: Any, path: Path) -> Any:
    """What lies at the path, through objects only; MISSING when nothing does."""
    for key in path:
        if type(value) is not dict:
            return MISSING
        value = value.get(key, MISSING)
    return value


def rename(value: Any, old: Path, new: Path) -> Any:
    """The object with what lay at `old` at `new` instead; unchanged when there is nothing. Raises `TemplateError`."""
    part = find(value, old)
    if part is MISSING:
        return value
    return put(drop(value, tree_of([old])), tree_of([new]), [part])
