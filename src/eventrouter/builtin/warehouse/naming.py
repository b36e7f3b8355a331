"""How names of events and of their properties become names of tables and columns (Segment's snake_case)."""

from __future__ import annotations

import hashlib
import unicodedata
from functools import lru_cache

MAX_NAME = 63
"""Bytes of a name in UTF-8 (PostgreSQL's NAMEDATALEN - 1); a longer one is cut and gets a hash of its whole."""

_SQL = """
add all alter analyse analyze and any array as asc asymmetric authorization autoincrement between binary both case cast
check collate collation column commit concurrently constraint create cross current_catalog current_date current_role
current_schema current_time current_timestamp current_user default deferrable delete desc distinct do drop else end
escape except exists false fetch for foreign freeze from full grant group having ilike in index initially inner insert
intersect into is isnull join lateral leading left like limit localtime localtimestamp natural not nothing notnull null
offset on only or order outer overlaps placing primary raise references returning right select session_user set similar
some symmetric system_user table tablesample then to trailing transaction true union unique update user using values
variadic verbose when where window with
"""
RESERVED_WORDS = frozenset(_SQL.split())
"""Words that PostgreSQL 18 or SQLite 3 refuse as an unquoted name: they get a leading `_`, the same in both."""

_SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
"""Columns that every PostgreSQL table has of its own."""

_LETTER, _DIGIT, _UPPER = 1, 2, 3


def _kind(char: str) -> int:
    """0 for what separates words; letters, their marks and digits of every script belong to a word."""
    category = unicodedata.category(char)
    if category == "Lu" or category == "Lt":
        return _UPPER
    if category[0] in "LM":
        return _LETTER
    return _DIGIT if category[0] == "N" else 0


def snake_case(name: str) -> str:
    """`camelCase123Key` → `camel_case123_key`, `UTMSource` → `utm_source`, `Größe (cm)` → `größe_cm`.

    Letters and digits of every script stay (after Unicode's NFKC); all else separates words. Empty when none is left.
    """
    words: list[str] = []
    word = ""
    before = 0
    text = unicodedata.normalize("NFKC", name)
    kinds = [_kind(char) for char in text]
    for position, char in enumerate(text):
        kind = kinds[position]
        following = kinds[position + 1] if position + 1 < len(text) else 0
        begins = kind == _UPPER and (before in (_LETTER, _DIGIT) or (before == _UPPER and following == _LETTER))
        if (kind == 0 or begins) and word:
            words.append(word)
            word = ""
        if kind:
            word += char.lower()
        before = kind
    if word:
        words.append(word)
    # Lower case may bring marks that were part of one character before (İ); the composed form is the one to keep.
    return unicodedata.normalize("NFKC", "_".join(words))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


def shorten(name: str, limit: int = MAX_NAME) -> str:
    """`name` in at most `limit` bytes of UTF-8, cut between characters; what was cut counts in a hash at the end."""
    data = name.encode("utf-8", "replace")
    if len(data) <= limit:
        return name
    return data[: limit - 9].decode("utf-8", "ignore") + "_" + _digest(name)


def part(key: str) -> str:
    """The snake_case of one key; a key without any letter or digit becomes `unnamed_` and a hash of it."""
    return snake_case(key) or f"unnamed_{_digest(key)}"


def column_name(path: str, taken: frozenset[str] = frozenset()) -> str:
    """The column for parts that are joined by `_`: a leading digit, a reserved word and what is `taken` get `_`."""
    if not path[0].isalpha() or path in RESERVED_WORDS or path in _SYSTEM_COLUMNS or path in taken:
        path = "_" + path
    return shorten(path)


@lru_cache(maxsize=4096)
def _table_name(event: str, taken: frozenset[str]) -> str:
    name = part(event)
    if not name[0].isalpha() or name in RESERVED_WORDS or name in taken or name.startswith(_OURS):
        name = "_" + name
    return shorten(name)


_OURS = ("eventrouter_", "sqlite_", "pg_")
"""Prefixes that the databases and we keep for ourselves."""


def table_name(event: str, taken: frozenset[str]) -> str:
    """The table for track events that are called `event`; `taken` are the tables that are not an event's.

    `Order Completed` → `order_completed`, `Users` → `_users`, `2FA enabled` → `_2_fa_enabled`, `order` → `_order`.
    """
    # Long names stay out of the cache, so that it stays small whatever clients send.
    return _table_name(event, taken) if len(event) <= 200 else _table_name.__wrapped__(event, taken)
