"""The filters and tests of expressions: pure functions of JSON values, bounded in work and memory."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from operator import itemgetter
from typing import Any
from urllib.parse import quote

from .values import (
    MAX_ITEMS,
    MAX_TEXT,
    MISSING,
    MismatchError,
    TemplateError,
    bounded_list,
    bounded_number,
    bounded_text,
    get,
    kind,
    text_of,
)

MAX_NAMES = 20
"""The most names that `attribute` may have: `a.b.c` has three."""


def _text(value: Any) -> str:
    if type(value) in (str, int, float, bool):
        return text_of(value)
    raise MismatchError(f"needs text, not {kind(value)}")


def _list(value: Any) -> list[Any]:
    if type(value) is list:
        return value
    raise MismatchError(f"needs a list, not {kind(value)}")


def _number(value: Any) -> Any:
    if type(value) in (int, float):
        return value
    raise MismatchError(f"needs a number, not {kind(value)}")


def _whole(value: Any) -> int:
    if type(value) is int:
        return value
    raise MismatchError(f"needs a whole number, not {kind(value)}")


def _names(attribute: Any) -> list[str]:
    """`product.price` as its names."""
    names = _text(attribute).split(".", MAX_NAMES)
    if len(names) > MAX_NAMES:
        raise TemplateError(f"takes an attribute of at most {MAX_NAMES} names")
    return names


def _at(item: Any, names: list[str]) -> Any:
    """What the names lead to from `item`, MISSING where there is nothing."""
    for name in names:
        item = get(item, name)
        if item is MISSING:
            break
    return item


def _pick(items: list[Any], attribute: Any) -> list[Any]:
    """What `attribute` (`price`, `product.price`) of each item leads to; items without it are left out."""
    if attribute is None:
        return items
    names = _names(attribute)
    found = [_at(item, names) for item in items]
    return [item for item in found if item is not MISSING]


def abs_(value: Any) -> Any:
    """The number without its sign."""
    return abs(_number(value))


def capitalize(value: Any) -> Any:
    """The first letter large, the others small."""
    return bounded_text(_text(value).capitalize())


def first(value: Any) -> Any:
    """The first item of a list, the first character of a text."""
    return get(value if type(value) is str else _list(value), 0)


def _otherwise(default: Any) -> Any:
    """What `float` and `int` make of what is no number: zero would be taken for one that was sent."""
    if default is MISSING:
        raise MismatchError("needs a number, or text that is one")
    return default


def float_(value: Any, default: Any = MISSING) -> Any:
    """The value as a number with a fraction; `default` where that can't be, without which it fails."""
    try:
        number = float(value) if type(value) in (int, float, str, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    return number if math.isfinite(number) else _otherwise(default)


def int_(value: Any, default: Any = MISSING) -> Any:
    """The value as a whole number, cut towards zero; `default` where that can't be, without which it fails."""
    if type(value) is str:
        try:
            return bounded_number(int(value))
        except ValueError:
            value = float_(value, None)
    if type(value) in (int, float, bool):
        return bounded_number(int(value))
    return _otherwise(default)


def join(value: Any, separator: str = "", attribute: str | None = None) -> Any:
    """The items as one text with `separator` between them."""
    texts = [_text(item) for item in _pick(_list(value), attribute) if item is not None]
    separator = _text(separator)
    if sum(map(len, texts)) + len(separator) * len(texts) > MAX_TEXT:
        raise TemplateError(f"makes a text of more than {MAX_TEXT:,} characters")
    return separator.join(texts)


def last(value: Any) -> Any:
    """The last item of a list, the last character of a text."""
    return get(value if type(value) is str else _list(value), -1)


def length(value: Any) -> Any:
    """The number of characters, items or keys."""
    if type(value) in (str, list, dict):
        return len(value)
    raise MismatchError(f"needs text, a list or an object, not {kind(value)}")


def list_(value: Any) -> Any:
    """A list as it is, the keys of an object, the characters of a text."""
    if type(value) in (str, list, dict):
        return bounded_list(list(value[: MAX_ITEMS + 1] if type(value) is str else value))
    raise MismatchError(f"needs a list, not {kind(value)}")


def lower(value: Any) -> Any:
    """All letters small."""
    return bounded_text(_text(value).lower())


def map_(value: Any, attribute: str) -> Any:
    """What `attribute` of each item is; items without it are left out."""
    return _pick(_list(value), attribute)


def _ordered(items: list[Any]) -> list[Any]:
    """The items, when they have an order: numbers, or texts."""
    kinds = set(map(type, items))
    if kinds <= {int, float} or kinds == {str}:
        return items
    raise MismatchError("needs numbers alone, or texts alone")


def _most(value: Any, attribute: str | None, choose: Callable[[list[Any]], Any]) -> Any:
    items = [item for item in _pick(_list(value), attribute) if item is not None]
    return choose(_ordered(items)) if items else MISSING


def max_(value: Any, attribute: str | None = None) -> Any:
    """The largest item."""
    return _most(value, attribute, max)


def min_(value: Any, attribute: str | None = None) -> Any:
    """The smallest item."""
    return _most(value, attribute, min)


def replace(value: Any, old: str, new: str) -> Any:
    """The text with `new` wherever `old` stands."""
    text, old, new = _text(value), _text(old), _text(new)
    if len(text) + text.count(old) * (len(new) - len(old)) > MAX_TEXT:
        raise TemplateError(f"makes a text of more than {MAX_TEXT:,} characters")
    return text.replace(old, new)


def reverse(value: Any) -> Any:
    """The list or text from its end."""
    return (value if type(value) is str else _list(value))[::-1]


def round_(value: Any, precision: int = 0, method: str = "common") -> Any:
    """Rounded to `precision` digits after the point, by `method`: common, ceil or floor."""
    number, digits = _number(value), max(-20, min(20, _whole(precision)))
    if method == "common":
        return bounded_number(round(number, digits))
    if method not in ("ceil", "floor"):
        raise MismatchError("takes common, ceil or floor")
    scaled = number * 10**digits
    return bounded_number((math.ceil(scaled) if method == "ceil" else math.floor(scaled)) / 10**digits)


def sha256(value: Any) -> Any:
    """The SHA-256 digest of the text, 64 hex digits, as advertising services want addresses (lower and trim first)."""
    return hashlib.sha256(_text(value).encode()).hexdigest()


def sort(value: Any, reverse: bool = False, attribute: str | None = None) -> Any:
    """The list in order; by `attribute`, without the items that lack it."""
    items = _list(value)
    if attribute is None:
        return sorted(_ordered(items), reverse=bool(reverse))
    names = _names(attribute)
    keyed = [(key, item) for item in items if (key := _at(item, names)) is not MISSING]
    _ordered([key for key, _ in keyed])
    return [item for _, item in sorted(keyed, key=itemgetter(0), reverse=bool(reverse))]


def split(value: Any, separator: str | None = None) -> Any:
    """The parts of the text between separators (white space by default)."""
    if separator == "":
        raise MismatchError("needs a separator")
    return bounded_list(_text(value).split(None if separator is None else _text(separator), MAX_ITEMS))


def string(value: Any) -> Any:
    """The value as text, as in JSON where it is none."""
    return text_of(value)


def sum_(value: Any, attribute: str | None = None, start: Any = 0) -> Any:
    """The numbers added up; null items are left out."""
    total = _number(start)
    for item in _pick(_list(value), attribute):
        if item is not None:
            total = bounded_number(total + _number(item))
    return total


def title(value: Any) -> Any:
    """Each word with a large first letter."""
    return bounded_text(_text(value).title())


def tojson(value: Any) -> Any:
    """The value as JSON text."""
    return text_of([value])[1:-1]


def trim(value: Any) -> Any:
    """Without white space at both ends."""
    return _text(value).strip()


def unique(value: Any) -> Any:
    """Without repeated items, in their first order."""
    seen: list[Any] = []
    keys = set()
    for item in _list(value):
        key = item
        if type(item) in (list, dict):
            key = text_of(item)
        elif type(item) in (int, float) and abs(item) >= 2**60:  # larger ones may all have one hash
            key = str(int(item))
        key = (type(item) is bool, key, key is not item)
        if key not in keys:
            keys.add(key)
            seen.append(item)
    return seen


def upper(value: Any) -> Any:
    """All letters large."""
    return bounded_text(_text(value).upper())


def urlencode(value: Any) -> Any:
    """The text as it may stand in a URL's query."""
    text = _text(value).encode()
    if len(text) > MAX_TEXT:  # each byte makes one character or three
        raise TemplateError(f"makes a text of more than {MAX_TEXT:,} characters")
    return bounded_text(quote(text, safe=""))


FILTERS: dict[str, Callable[..., Any]] = {
    "abs": abs_, "capitalize": capitalize, "count": length, "first": first, "float": float_, "int": int_,
    "join": join, "last": last, "length": length, "list": list_, "lower": lower, "map": map_, "max": max_,
    "min": min_, "replace": replace, "reverse": reverse, "round": round_, "sha256": sha256, "sort": sort,
    "split": split, "string": string, "sum": sum_, "title": title, "tojson": tojson, "trim": trim, "unique": unique,
    "upper": upper, "urlencode": urlencode,
}  # fmt: skip
"""The built-in filters, without `default`, which alone sees a missing value."""

NULLABLE = frozenset({"tojson"})
"""The filters that take null; for the others null counts as missing."""


TESTS: dict[str, tuple[Callable[..., bool], int]] = {
    "defined": (lambda value: value is not MISSING, 0),
    "undefined": (lambda value: value is MISSING, 0),
    "none": (lambda value: value is None, 0),
    "true": (lambda value: value is True, 0),
    "false": (lambda value: value is False, 0),
    "boolean": (lambda value: type(value) is bool, 0),
    "string": (lambda value: type(value) is str, 0),
    "number": (lambda value: type(value) in (int, float), 0),
    "integer": (lambda value: type(value) is int, 0),
    "float": (lambda value: type(value) is float, 0),
    "mapping": (lambda value: type(value) is dict, 0),
    "sequence": (lambda value: type(value) is list, 0),
    "startswith": (lambda value, part: type(value) is str and type(part) is str and value.startswith(part), 1),
    "endswith": (lambda value, part: type(value) is str and type(part) is str and value.endswith(part), 1),
}
"""The tests behind `is`, and how many arguments each takes."""
