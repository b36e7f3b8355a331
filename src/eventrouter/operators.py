"""The operators of expressions on JSON's values and `MISSING`: wrong types are counted, work and memory are bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .values import (
    MAX_BITS,
    MAX_ITEMS,
    MAX_MADE,
    MISSING,
    MismatchError,
    Missing,
    TemplateError,
    bounded_list,
    bounded_number,
    bounded_text,
    cut,
    join_text,
    kind,
    make_list,
    make_object,
    same,
    weight,
)

_NUMBERS = frozenset({int, float})
_SIZED = frozenset({str, list, dict})
_DEEP = frozenset({list, dict})

FREE_ITEMS = 20
FREE_CHARACTERS = 1000
"""To look through a list or a text of at most so many costs nothing of what an evaluation may look through."""
SEARCH = 4
"""To look at an item takes so many times the time of making one, at a character of a text so much less."""


class Operators:
    """The operators whose operands may have the wrong types.

    Comparing mismatched types is false and counted in `mismatches`. Arithmetic on wrong types is MISSING and counted
    when `strict` is false (conditions), else an error (templates). null counts as missing in both.
    All that is made or looked through since `begin` is counted, too, and bounded by `MAX_MADE`.
    """

    def __init__(self, *, strict: bool) -> None:
        self.strict = strict
        self.mismatches = 0
        self._left = MAX_MADE

    def begin(self) -> None:
        """Begins an evaluation: from here on `MAX_MADE` may be made."""
        self._left = MAX_MADE

    def spend(self, amount: int) -> None:
        """Counts what is made or looked through, in characters and items. Raises `TemplateError` at the bound."""
        self._left -= amount
        if self._left < 0:
            raise TemplateError(f"makes or looks through more than {MAX_MADE:,} characters and items")

    def mismatch(self, message: str) -> Missing:
        """Counts (or raises) a value of the wrong type."""
        if self.strict:
            raise MismatchError(message)
        self.mismatches += 1
        return MISSING

    def eq(self, a: Any, b: Any) -> bool:
        """`a == b`; false for values of two types (counted)."""
        if type(a) in _DEEP:
            self.spend(weight(a))
        if a == b and (type(a) is str or same(a, b)):
            return True
        self._mismatched(a, b)
        return False

    def ne(self, a: Any, b: Any) -> bool:
        """`a != b`; false for values of two types (counted) and with a missing one."""
        if type(a) in _DEEP:
            self.spend(weight(a))
        if a is MISSING or b is MISSING or (a == b and (type(a) is str or same(a, b))):
            return False
        return not self._mismatched(a, b)

    def _mismatched(self, a: Any, b: Any) -> bool:
        """Whether two values that are there have types that don't compare, which is counted. null compares with all."""
        one, other = type(a), type(b)
        if one is other or (one in _NUMBERS and other in _NUMBERS):
            return False
        if a is MISSING or b is MISSING or a is None or b is None:
            return False
        self.mismatches += 1
        return True

    def lt(self, a: Any, b: Any) -> bool:
        """`a < b` of two numbers or two texts; nothing else has an order."""
        if (type(a) in _NUMBERS and type(b) in _NUMBERS) or type(a) is str is type(b):
            return bool(a < b)
        return self._unordered(a, b)

    def lteq(self, a: Any, b: Any) -> bool:
        """`a <= b`, see `lt`."""
        if (type(a) in _NUMBERS and type(b) in _NUMBERS) or type(a) is str is type(b):
            return bool(a <= b)
        return self._unordered(a, b)

    def gt(self, a: Any, b: Any) -> bool:
        """`a > b`, see `lt`."""
        if (type(a) in _NUMBERS and type(b) in _NUMBERS) or type(a) is str is type(b):
            return bool(a > b)
        return self._unordered(a, b)

    def gteq(self, a: Any, b: Any) -> bool:
        """`a >= b`, see `lt`."""
        if (type(a) in _NUMBERS and type(b) in _NUMBERS) or type(a) is str is type(b):
            return bool(a >= b)
        return self._unordered(a, b)

    def _unordered(self, a: Any, b: Any) -> bool:
        if a is not None and b is not None and a is not MISSING and b is not MISSING:
            self.mismatches += 1
        return False

    def contains(self, item: Any, container: Any) -> bool:
        """`item in container`: a part of a text, an item of a list, a key of an object."""
        return self._has(item, container) is True

    def lacks(self, item: Any, container: Any) -> bool:
        """`item not in container`; false, too, where `in` has no meaning."""
        return self._has(item, container) is False

    def _has(self, item: Any, container: Any) -> bool | None:
        if item is MISSING or container is MISSING or container is None:
            return None
        if type(container) in (list, tuple):  # a tuple holds the items of `[…]`, of which some may be missing
            if type(item) in _DEEP:
                self.spend(sum(weight(one) for one in container))
            elif len(container) > FREE_ITEMS:
                self.spend(SEARCH * len(container))
            if item not in container:
                return False
            return type(item) is str or any(one == item and same(one, item) for one in container)
        if type(container) in (str, dict) and type(item) is str:
            if type(container) is str and len(container) > FREE_CHARACTERS:
                self.spend(len(container) // SEARCH)
            return item in container
        self.mismatches += 1
        return None

    def add(self, a: Any, b: Any) -> Any:
        """`a + b` of two numbers, two texts or two lists."""
        one, other = type(a), type(b)
        if one in _NUMBERS and other in _NUMBERS:
            return self._number("+", a, b, lambda: a + b)
        if one is str and other is str:
            self.spend(len(a) + len(b))
            return bounded_text(a + b)
        if one is list and other is list:
            self.spend(weight(a) + weight(b))
            return bounded_list(a + b)
        return self._no_meaning("+", a, b)

    def sub(self, a: Any, b: Any) -> Any:
        """`a - b` of two numbers."""
        return self._number("-", a, b, lambda: a - b)

    def mul(self, a: Any, b: Any) -> Any:
        """`a * b` of two numbers."""
        return self._number("*", a, b, lambda: a * b)

    def div(self, a: Any, b: Any) -> Any:
        """`a / b` of two numbers."""
        return self._number("/", a, b, lambda: a / b)

    def floordiv(self, a: Any, b: Any) -> Any:
        """`a // b` of two numbers."""
        return self._number("//", a, b, lambda: a // b)

    def mod(self, a: Any, b: Any) -> Any:
        """`a % b` of two numbers."""
        return self._number("%", a, b, lambda: a % b)

    def neg(self, a: Any) -> Any:
        """`-a` of a number."""
        return self._number("-", 0, a, lambda: -a)

    def pos(self, a: Any) -> Any:
        """`+a` of a number."""
        return self._number("+", 0, a, lambda: +a)

    def _number(self, symbol: str, a: Any, b: Any, compute: Callable[[], Any]) -> Any:
        if type(a) not in _NUMBERS or type(b) not in _NUMBERS:
            return self._no_meaning(symbol, a, b)
        if (type(a) is int and a.bit_length() > MAX_BITS) or (type(b) is int and b.bit_length() > MAX_BITS):
            raise TemplateError(f"`{symbol}` takes a number that is too large")
        try:
            return bounded_number(compute())
        except ZeroDivisionError:
            return self.mismatch(f"`{symbol}` divides by zero")
        except OverflowError:
            raise TemplateError(f"`{symbol}` makes a number that is too large") from None

    def _no_meaning(self, symbol: str, a: Any, b: Any) -> Missing:
        if a is MISSING or b is MISSING or a is None or b is None:
            return MISSING
        return self.mismatch(f"`{symbol}` has no meaning for {kind(a)} and {kind(b)}")

    def cut(self, value: Any, start: Any, stop: Any) -> Any:
        """`value[start:stop]`, see `values.cut`."""
        try:
            part = cut(value, start, stop)
        except MismatchError as error:
            return self.mismatch(str(error))
        if part is not MISSING:
            self.spend(len(part))
        return part

    def make_list(self, *items: Any) -> Any:
        """`[a, b]`, see `values.make_list`. It weighs as much as all that is in it."""
        made = make_list(*items)
        self.spend(weight(made))
        return made

    def make_object(self, keys: tuple[str, ...], *values: Any) -> Any:
        """`{"key": a}`, see `values.make_object`. It weighs as much as all that is in it."""
        made = make_object(keys, *values)
        self.spend(weight(made))
        return made

    def join_text(self, *parts: Any) -> Any:
        """`a ~ b`, see `values.join_text`."""
        text = join_text(*parts)
        if text is not MISSING:
            self.spend(len(text))
        return text

    def call(
        self, name: str, function: Callable[..., Any], nullable: bool, weigh: Callable[[Any], int] = len
    ) -> Callable[..., Any]:
        """`function` as a filter: MISSING for a missing value or argument, errors as `TemplateError`.

        `weigh` says how much a text, list or object that it made counts.
        """

        def filtered(value: Any, *args: Any, **kwargs: Any) -> Any:
            if value is MISSING or (value is None and not nullable):
                return MISSING
            for arg in args:
                if arg is MISSING:
                    return MISSING
            for arg in kwargs.values():
                if arg is MISSING:
                    return MISSING
            try:
                if type(value) is list:  # going through it counts as making it: work is bounded, too
                    self.spend(len(value))
                result = function(value, *args, **kwargs)
                if type(result) in _SIZED:
                    self.spend(weigh(result))
                return result
            except MismatchError as error:
                return self.mismatch(f"the filter `{name}` {error}")
            except TemplateError as error:
                raise TemplateError(f"the filter `{name}` {error}") from None
            except Exception as error:
                raise TemplateError(f"the filter `{name}` failed with {type(error).__name__}") from error

        return filtered


def checked_filter(function: Callable[..., Any]) -> Callable[..., Any]:
    """A plugin's filter whose result must be a JSON value of a bounded size."""

    def checked(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if result is MISSING:
            return result
        waiting, count = [result], 0
        while waiting:
            value = waiting.pop()
            count += 1
            if type(value) is str:
                bounded_text(value)
            elif type(value) in (int, float):
                bounded_number(value)
            elif type(value) is list:
                waiting.extend(value)
            elif type(value) is dict and all(type(key) is str for key in value):
                waiting.extend(value.values())
            elif value is not None and type(value) is not bool:
                raise TemplateError(f"returned {type(value).__name__}, which is not JSON")
            if count + len(waiting) > MAX_ITEMS:
                raise TemplateError("returned too much")
        return result

    return checked
