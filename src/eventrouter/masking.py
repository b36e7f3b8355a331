"""What of a plugin's options is secret, and how it is kept out of texts that are stored, logged or shown.

Secret are, in any of the forms in which a template may make it or a service send it back (escaped for JSON, HTML or an
address, also twice; from 8 characters on in upper and lower case, too):
- every `SecretStr` and `SecretBytes` of 6 characters or more; of `Bearer abc` the credentials alone, too;
- what came from a variable (`${VAR}`), from 8 characters on, unless it is the host of an address or the path of a file;
- of an address its password, or its user where there is none; what its query calls a key, a token or the like, from 6
  characters on; each other part of its path and query that has 8 characters or more and isn't words in small letters;
  of one that is a `SecretStr` or came from a variable all that follows the host.
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from pydantic import BaseModel, SecretBytes, SecretStr

MASK = "**********"
"""What stands in the place of a secret: what pydantic shows of one."""

SHORTEST = 6
"""Characters. A shorter `SecretStr` (a header's `on`, say) would be found in too many texts."""
SHORTEST_GUESS = 8
"""Characters of what nobody called a secret."""

SECRET_NAME = re.compile(
    r"pass(word|wd|phrase)|secret|token|api_?key|private_?key|write_?key|authori[sz]ation|credential|cookie|signature",
    re.IGNORECASE,
)
"""What is called so is secret."""
_SECRET_PARAMETER = re.compile(r"key|sig|auth|code", re.IGNORECASE)
"""What in the query of an address is secret, too, when it is called just that."""
_SCHEME = re.compile(r"([A-Za-z][\w-]*)\s+(\S.*)", re.DOTALL)
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s]")
_WORD = re.compile(r"[a-z]+([_.-][a-z]+)*")


class Mask:
    """Takes secrets out of texts; called with a text, and with the length to which it is cut when they are out."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.secrets = sorted({secret for secret in secrets if secret}, key=len, reverse=True)
        self._longest = len(self.secrets[0]) if self.secrets else 0
        self._pattern = re.compile("|".join(re.escape(secret) for secret in self.secrets))

    def __call__(self, text: str, most: int | None = None) -> str:
        """`text` with `MASK` for each secret, then cut after `most` characters."""
        end = len(text) if most is None else min(most, len(text))
        # All that begins before the cut is in here: no part of a secret may be left by the cut.
        window = text[: end + self._longest]
        if not any(secret in window for secret in self.secrets):
            return text[:end]
        out: list[str] = []
        length = position = 0
        while position < len(text) and (most is None or length < most):
            match = self._pattern.search(text, position, len(text) if most is None else position + most + self._longest)
            piece = text[position : match.start() if match else len(text)]
            out += [piece, MASK] if match else [piece]
            length += len(piece) + (len(MASK) if match else 0)
            position = match.end() if match else len(text)
        return "".join(out)[:most]

    def __or__(self, other: Mask) -> Mask:
        """Takes the secrets of both out."""
        return Mask([*self.secrets, *other.secrets])

    def inside(self, value: Any, *, keys: bool = False) -> Any:
        """A JSON value with `MASK` for each secret in its texts, and for a number that is one; in its `keys`, too."""
        if not self.secrets:
            return value
        if type(value) is dict:
            return {self(key) if keys else key: self.inside(part, keys=keys) for key, part in value.items()}
        if type(value) is list:
            return [self.inside(part, keys=keys) for part in value]
        if type(value) in (int, float):
            return value if self(str(value)) == str(value) else MASK
        return self(value) if type(value) is str else value


def secrets_of(*options: object) -> tuple[str, ...]:
    """Every secret in `options` (models, mappings, sequences, at any depth) in all its forms, longest first."""
    found = _Found()
    for one in options:
        found.look(one)
    return tuple(sorted({form for secret in found.all() for form in forms(secret)}, key=len, reverse=True))


def forms(secret: str) -> set[str]:
    """How `secret` may stand in a text."""
    found = {secret}
    if len(secret) >= SHORTEST_GUESS:
        found.update((secret.upper(), secret.lower(), secret.capitalize(), secret.title()))
    for one in tuple(found):
        found.update((repr(one)[1:-1], html.escape(one)))
        found.update(twice for once in _in_json(one) for twice in (once, *_in_json(once)))
        for quoted in _quoted(one):
            found.update((quoted, re.sub("%..", lambda match: match[0].lower(), quoted), quote(quoted, "")))
    return found


def _in_json(text: str) -> set[str]:
    return {json.dumps(text, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)}


def _quoted(text: str) -> set[str]:
    """How `text` may stand in an address."""
    return {quote(text, errors="replace"), quote(text, "", errors="replace"), quote_plus(text, "", errors="replace")}


class _Found:
    """What was found in options so far."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()
        self._variables: set[str] = set()
        self._harmless: set[str] = set()
        """Hosts and files."""

    def look(self, value: Any) -> None:
        if isinstance(value, SecretStr):
            self._declared(value.get_secret_value())
        elif isinstance(value, SecretBytes):
            self._declared(value.get_secret_value().decode("utf-8", "replace"))
        elif isinstance(value, BaseModel):
            self._variables.update(getattr(value, "_variables", ()))
            for _, part in value:
                self.look(part)
        elif isinstance(value, Mapping):
            for part in value.values():
                self.look(part)
        elif isinstance(value, list | tuple | set | frozenset):
            for part in value:
                self.look(part)
        elif isinstance(value, Path):
            self._harmless.add(str(value))
        elif isinstance(value, str) or hasattr(value, "unicode_string"):  # a URL of pydantic
            self._secrets.update(self._in_address(str(value)))

    def all(self) -> set[str]:
        for text in self._variables:
            if _ADDRESS.match(text):
                self._secrets.update(self._in_address(text, whole=True))
        guessed = {
            text
            for text in self._variables
            if len(text) >= SHORTEST_GUESS
            and not _ADDRESS.match(text)
            and not any(text in harmless for harmless in self._harmless)
        }
        return self._secrets | guessed

    def _declared(self, secret: str) -> None:
        if _ADDRESS.match(secret):
            self._secrets.update(self._in_address(secret, whole=True))
        if len(secret) >= SHORTEST:
            self._secrets.add(secret)
        if match := _SCHEME.fullmatch(secret):
            parts = {match[2]}
            if match[1].lower() == "basic":
                parts.update(_password(match[2]))
            self._secrets.update(part for part in parts if len(part) >= SHORTEST)

    def _in_address(self, text: str, *, whole: bool = False) -> Iterator[str]:
        """The secrets of an address; nothing of another text. `whole`: all that follows the host is one."""
        if not _ADDRESS.match(text):
            return
        try:
            url = urlsplit(text)
            self._harmless.update((url.hostname or "", url.netloc.rpartition("@")[2]))
        except ValueError:
            return
        user, colon, password = url.netloc.rpartition("@")[0].partition(":")
        for part in (password, unquote(password), f"{user}:{password}") if colon else (user, unquote(user)):
            if len(part) >= SHORTEST:
                yield part
        rest = url.path + (f"?{url.query}" if url.query else "")
        if whole and len(rest) >= SHORTEST_GUESS:
            yield rest
        steps = url.path.split("/") if url.scheme in ("http", "https") else []
        parameters = parse_qsl(url.query)
        for name, value in parameters:
            if len(value) >= SHORTEST and (SECRET_NAME.search(name) or _SECRET_PARAMETER.fullmatch(name)):
                yield value
        for part in (*steps, *(value for _, value in parameters)):
            if len(part) >= SHORTEST_GUESS and not _WORD.fullmatch(part):
                yield from (part, unquote(part))


def _password(encoded: str) -> Iterator[str]:
    """What `Basic` authentication has behind the colon."""
    try:
        yield base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return
