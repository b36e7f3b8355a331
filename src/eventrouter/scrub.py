"""What is taken out of a source's events before anything is stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from . import paths
from .blocked import is_blocked
from .digest import digest_with
from .events import Event
from .query_parameters import Effort, QueryParameters
from .times import read_time
from .values import MISSING

NEEDED = (
    "type", "event", "messageId", "timestamp", "originalTimestamp", "sentAt", "receivedAt",
)  # fmt: skip
"""What no event is understood without."""
TIMES = ("timestamp", "originalTimestamp", "sentAt", "receivedAt")
IDS = ("userId", "anonymousId", "previousId", "groupId")
OBJECTS = ("context", "properties", "traits", "integrations")

_KEPT = frozenset((*NEEDED, *IDS))

Clean = Callable[[str, Effort], str]
Tree = dict[str, Any]
"""Paths as nested dicts; None is the end of a path, `*` any key."""


def check_path(text: str, what: str) -> paths.Path:
    """The keys of a path of `scrub.remove` or `scrub.hash` (`what`); raises `ValueError` that says what is wrong.

    `*` stands for any one key. Without their ids, times and name events could not be kept, told apart or joined.
    """
    path = paths.parse(text, wildcards=True)
    if path[0] == "*":
        raise ValueError("would change what the event is understood by: name the first key")
    if len(path) == 1:
        if path[0] in NEEDED:
            raise ValueError("is what the event is understood by: it has to stay as it is")
        if path[0] in IDS and what == "remove":
            raise ValueError("is what the event is kept by: hash it instead")
        if path[0] in OBJECTS:
            raise ValueError(f"is a whole: write `{path[0]}.*` for all that is in it")
    return path


class Scrub:
    """One source's `scrub:`, compiled. Events are never mutated: what changes is copied.

    Fields are removed first, then query parameters (in each text of the event and each key, but for its ids and name),
    then fields are hashed. A path goes into each item of a list. A path into `traits` means `context.traits` as well
    and the other way round, because clients send them in either. Whoever hashes `userId` or `anonymousId` hashes
    `previousId` where it is one of these.
    """

    def __init__(
        self, *, remove: Iterable[str] = (), hashed: Iterable[str] = (), query: Iterable[str] = (), salt: str = ""
    ) -> None:
        """Paths whose values are removed and hashed, and names of query parameters."""
        hashed = list(hashed)
        self._remove = _tree(remove)
        self._ids = [name for name in IDS if name in hashed]
        self._hash = _tree([text for text in hashed if text not in IDS])
        parameters = list(query)
        self._query = QueryParameters(parameters) if parameters else None
        self._digest = _digest(salt)

    def __call__(self, event: Event, effort: Effort | None = None) -> Event:
        """The event as it may be stored. Raises `RecursionError` for one that is nested too deeply.

        `effort` is that of the body which the event is from: see `QueryParameters.clean`.
        """
        same = event.get("previousId") == event.get("anonymousId")
        return self._scrubbed(event, effort, strict=False, previous="anonymousId" if same else "userId")

    def refused(self, raw: Any, effort: Effort | None = None) -> Any:
        """A refused event, which may have any shape, as it may be stored; MISSING when nothing of it may be.

        A value that stands where an object was to be scrubbed is taken out, and so is a time that is none.
        """
        if type(raw) is not dict:
            return MISSING
        raw = {name: value for name, value in raw.items() if name not in TIMES or read_time(value) is not None}
        try:
            return self._scrubbed(raw, effort, strict=True, previous="")
        except RecursionError:
            return MISSING

    def _scrubbed(self, event: Event, effort: Effort | None, *, strict: bool, previous: str) -> Event:
        """`previous`: what the previousId is, `userId` or `anonymousId`; empty when it may be either."""
        if self._remove:
            event = _change(event, self._remove, _gone, strict)
        if self._query is not None:
            event = _without_parameters(event, self._query.clean, effort or Effort(), skip=_KEPT)
        if self._hash:
            event = _change(event, self._hash, self._digest, strict)
        if self._ids:
            event = self._hash_ids(event, previous)
        return event

    def _hash_ids(self, event: Event, previous: str) -> Event:
        hashed = {}
        names = self._ids
        if "previousId" in event and "previousId" not in names and (previous in names if previous else names):
            names = [*names, "previousId"]
        for name in names:
            value = event.get(name)
            # What stands for a missing id is nobody's, and has to be seen as such by those who join people.
            if value is not None and not (type(value) is str and is_blocked(value)):
                hashed[name] = self._digest(value)
        return {**event, **hashed} if hashed else event


def _tree(texts: Iterable[str]) -> Tree:
    root: Tree = {}
    for text in texts:
        path = paths.parse(text, wildcards=True)
        _plant(root, path)
        if path[0] == "traits":
            _plant(root, ("context", *path))
        elif path[:2] == ("context", "traits"):
            _plant(root, path[1:])
    return root


def _plant(root: Tree, path: paths.Path) -> None:
    """Adds a path to the tree, unless the whole that it is a part of is there."""
    node = root
    for key in path[:-1]:
        inner = node.setdefault(key, {})
        if inner is None:
            return
        node = inner
    node[path[-1]] = None


def _change(value: Any, tree: Tree, how: Callable[[Any], Any], strict: bool) -> Any:
    """The value with `how(part)` at the ends of the tree's paths; MISSING takes out.

    What is neither an object nor a list where the tree goes on is taken out if `strict`, or when all keys were to go.
    """
    if type(value) is dict:
        changed = value
        for key, inner in tree.items():
            for name in _names(changed, key, tree):
                part = changed[name]
                new = how(part) if inner is None else _change(part, inner, how, strict)
                if new is part:
                    continue
                if changed is value:
                    changed = value.copy()
                if new is MISSING:
                    del changed[name]
                else:
                    changed[name] = new
        return changed
    if type(value) is list:
        return [part for item in value if (part := _change(item, tree, how, strict)) is not MISSING]
    return MISSING if value is not None and (strict or ("*" in tree and tree["*"] is None)) else value


def _names(value: dict[str, Any], key: str, tree: Tree) -> Iterable[str]:
    """The keys that `key` of the tree stands for: `*` for all but those that the tree names as a whole."""
    if key == "*":
        return [name for name in value if tree.get(name, tree) is not None]
    return (key,) if key in value else ()


def _gone(value: Any) -> Any:
    return MISSING


def _digest(salt: str) -> Callable[[Any], Any]:
    digest = digest_with(salt)

    def digest_anything(value: Any) -> Any:
        try:
            return digest(value)
        except UnicodeEncodeError:  # half of a surrogate pair in an object or list, which is to be mended yet
            return digest(json.dumps(value, sort_keys=True))

    return digest_anything


def _without_parameters(value: Any, clean: Clean, effort: Effort, skip: frozenset[str] = frozenset()) -> Any:
    """The value with each text in it cleaned, keys as well, but for those under the keys of `skip`."""
    if type(value) is str:
        return clean(value, effort)
    if type(value) is dict:
        changed = value
        odd = False
        for key, part in value.items():
            if key in skip:
                continue
            if "=" in key or "%" in key:
                odd = True
            new = _without_parameters(part, clean, effort)
            if new is not part:
                if changed is value:
                    changed = value.copy()
                changed[key] = new
        if odd and any(clean(key, effort) is not key for key in value):
            changed = {clean(key, effort): part for key, part in changed.items()}
        return changed
    if type(value) is list:
        items = [_without_parameters(item, clean, effort) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value
