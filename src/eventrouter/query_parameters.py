"""Takes query parameters out of texts that are URLs, parts of URLs, or hold some."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote, unquote, unquote_plus

MAX_NESTING = 4
"""How many URLs within parameters of URLs are looked into."""

_NAME = re.compile(r"(^|[?&#;])([^=&#?;\s]{1,300})=")
_END = re.compile(r"[&#]")
_END_IN_PROSE = re.compile(r"[&#\s]")
_SEPARATOR = re.compile(r"[?&#;\s]")
_SPACE = re.compile(r"\s")
_ENCODED = re.compile(r"%(25)*3d", re.IGNORECASE)


class QueryParameters:
    """The names of parameters, and how texts are rid of them.

    A parameter is `name=value` at the beginning of a text or after `?`, `&`, `;` or `#`. Names are compared without
    regard to case and once decoded; `name[]` counts as `name`. Parameters of a URL that is itself the value of a
    parameter are taken out, too.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {name.casefold() for name in names}

    def clean(self, text: str, nesting: int = 0) -> str:
        """The text without the parameters: the very same object when it holds none."""
        if "=" not in text:
            if "%" in text and nesting < MAX_NESTING and _ENCODED.search(text):
                return self._clean_encoded(text, nesting)
            return text
        encoded = "%" in text and nesting < MAX_NESTING and _ENCODED.search(text) is not None
        space = _SPACE.search(text)
        prose = len(text) if space is None else space.start()
        pieces = []
        done = 0
        lead: str | None = None
        """The separator that waits for the next parameter, after the ones before it were taken out."""
        for match in _NAME.finditer(text):
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
                cleaned = self.clean(value, nesting + ("=" in value)) if "%" in value else value
                if cleaned is not value:
                    pieces += [_led(lead, text[done : match.end()]), cleaned]
                    lead = None
                    done = end
        if done == 0:
            return text
        return "".join([*pieces, _led(lead, text[done:])])

    def _named(self, name: str) -> bool:
        return unquote_plus(name).strip().removesuffix("[]").casefold() in self._names

    def _clean_encoded(self, text: str, nesting: int) -> str:
        decoded = unquote(text)
        cleaned = self.clean(decoded, nesting + 1)
        return text if cleaned is decoded else quote(cleaned, safe="")


def _end_of(text: str, begin: int, end: re.Pattern[str]) -> int:
    found = end.search(text, begin)
    return len(text) if found is None else found.start()


def _led(lead: str | None, text: str) -> str:
    return lead + text[1:] if lead is not None and text[:1] in ("&", ";") else text
