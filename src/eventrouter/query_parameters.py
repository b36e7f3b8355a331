"""Takes query parameters out of texts that are URLs, parts of URLs, or hold some."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote, unquote, unquote_plus

MAX_NESTING = 4
"""How many URLs within parameters of URLs are looked into."""
MAX_EFFORT = 120_000
"""How much of one body is looked into: about 50 ms of work, and twice what 500 KB of nothing but URLs hold."""

MAX_KNOWN = 1024
"""How many names are remembered."""

_DECODING = 5
"""The effort of decoding a value, where that of looking at a name is 1."""

_NAME = re.compile(r"(^|[?&#;])([^=&#?;\s]{1,300})=")
_END = re.compile(r"[&#]")
_END_IN_PROSE = re.compile(r"[&#\s]")
_SEPARATOR = re.compile(r"[?&#;\s]")
_SPACE = re.compile(r"\s")
_ENCODED = re.compile(r"%(25)*3d", re.IGNORECASE)
_BRACKETS = re.compile(r"[\[\]]")


class Effort:
    """What was spent on one body, whose texts are read once each, however often they come."""

    __slots__ = ("known", "left", "lost")

    def __init__(self) -> None:
        self.left = MAX_EFFORT
        self.lost = 0
        """How many texts were taken out as a whole, because there was nothing left."""
        self.known: dict[str, str | None] = {}
        """The texts that were read, and what they became; None: nothing else."""


class _Exhausted(Exception):
    pass


class QueryParameters:
    """The names of parameters, and how texts are rid of them.

    A parameter is `name=value` at the beginning of a text or after `?`, `&`, `;` or `#`. Names are compared without
    regard to case and once decoded; `name[]`, `name[0]` and `any[name]` count as `name`. Parameters of a URL that is
    itself the value of a parameter are taken out, too.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {name.casefold() for name in names}
        self._named = lru_cache(MAX_KNOWN)(self._is_named)

    def clean(self, text: str, effort: Effort | None = None) -> str:
        """The text without the parameters: the very same object when it holds none.

        `effort` is that of the body which the text is from. When nothing is left of it, the text becomes empty.
        """
        if "=" not in text and "%" not in text:
            return text
        effort = effort or Effort()
        try:
            cleaned = effort.known[text]
        except KeyError:
            try:
                cleaned = self._clean(text, 0, effort)
            except _Exhausted:
                effort.lost += 1
                cleaned = ""
            if cleaned is text:
                cleaned = None
            effort.known[text] = cleaned
        return text if cleaned is None else cleaned

    def _clean(self, text: str, nesting: int, effort: Effort) -> str:
        if effort.left < 0:
            raise _Exhausted
        if "=" not in text:
            if "%" in text and nesting < MAX_NESTING and _ENCODED.search(text):
                return self._clean_encoded(text, nesting, effort)
            return text
        encoded = "%" in text and nesting < MAX_NESTING and _ENCODED.search(text) is not None
        space = _SPACE.search(text)
        prose = len(text) if space is None else space.start()
        pieces = []
        done = 0
        lead: str | None = None
        """The separator that waits for the next parameter, after the ones before it were taken out."""
        for match in _NAME.finditer(text):
            effort.left -= 1
            if effort.left < 0:
                raise _Exhausted
            begin = match.start()
            if begin < done:
                continue
            if self._named(match[2]):
                before = text[done:begin]
                if before:
                    pieces.append(_led(lead, before))
                    lead = None
                if lead is None and match[1] in ("", "?", "#"):
                    lead = match[1]
                # A URL has no space within it, but what claims to be one may.
                done = _end_of(text, match.end(), _END if begin < prose else _END_IN_PROSE)
            elif encoded:
                end = _end_of(text, match.end(), _SEPARATOR)
                value = text[match.end() : end]
                cleaned = self._clean(value, nesting + ("=" in value), effort) if "%" in value else value
                if cleaned is not value:
                    pieces += [_led(lead, text[done : match.end()]), cleaned]
                    lead = None
                    done = end
        if done == 0:
            return text
        return "".join([*pieces, _led(lead, text[done:])])

    def _is_named(self, name: str) -> bool:
        name = unquote_plus(name).strip().casefold()
        return name in self._names or ("[" in name and not self._names.isdisjoint(_BRACKETS.split(name)))

    def _clean_encoded(self, text: str, nesting: int, effort: Effort) -> str:
        effort.left -= _DECODING
        decoded = unquote(text)
        cleaned = self._clean(decoded, nesting + 1, effort)
        return text if cleaned is decoded else quote(cleaned, safe="")


def _end_of(text: str, begin: int, end: re.Pattern[str]) -> int:
    found = end.search(text, begin)
    return len(text) if found is None else found.start()


def _led(lead: str | None, text: str) -> str:
    return lead + text[1:] if lead is not None and text[:1] in ("&", ";") else text
