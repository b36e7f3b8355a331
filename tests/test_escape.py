"""No condition and no template escapes, whatever is written: it is refused, or does bounded work on plain values.

EVENTROUTER_ESCAPES=100000 makes so many tries of each.
"""

from __future__ import annotations

import copy
import os
import time
import tracemalloc
from collections.abc import Callable
from types import CodeType
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from escape_kit import EVENT, VARIABLES, expressions, templates
from eventrouter.condition_parts import Part, divide
from eventrouter.expressions import MISSING, ExpressionError, Expressions
from eventrouter.values import TemplateError

TRIES = int(os.environ.get("EVENTROUTER_ESCAPES", "250"))
SECONDS = 5
"""Of processor time, while memory is traced, which takes several times as long as without."""
BYTES = 10_000_000

escaping = settings(max_examples=TRIES, deadline=None, suppress_health_check=list(HealthCheck))


def taken(compile_it: Callable[[str], Any], text: str) -> Any:
    """What a text is compiled to; None where it is refused, which has to be clear and soon."""
    began = time.process_time()
    try:
        return compile_it(text)
    except ExpressionError as error:
        assert all(0 <= fault.offset <= len(text) and fault.message for fault in error.faults)
        assert error.faults
        return None
    finally:
        assert time.process_time() - began < SECONDS


def result(compiled: Callable[..., Any], event: dict[str, Any]) -> Any:
    """What an evaluation gives, MISSING where it fails, which it does with `TemplateError` alone."""
    tracemalloc.start()
    began = time.process_time()
    try:
        return compiled(event, "website")
    except TemplateError as error:
        assert str(error)
        return MISSING
    finally:
        used, (_, most) = time.process_time() - began, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert used < SECONDS
        assert most < BYTES


def is_plain(value: Any) -> bool:
    """Whether a value is JSON's through and through, of the very types that JSON is read into."""
    if type(value) is list:
        return all(map(is_plain, value))
    if type(value) is dict:
        return all(type(key) is str and is_plain(part) for key, part in value.items())
    return value is None or type(value) in (str, int, float, bool)


def attributes(function: Any) -> set[str]:
    """The attributes that compiled code asks values for: its names that aren't those of its namespace."""
    names: set[str] = set()
    waiting: list[CodeType] = [function.__code__]
    while waiting:
        code = waiting.pop()
        names.update(code.co_names)
        waiting.extend(one for one in code.co_consts if isinstance(one, CodeType))
    return names - function.__globals__.keys()


def parts(part: Part) -> list[str]:
    return [part.text, *(text for one in part.parts for text in parts(one))]


@escaping
@given(expressions)
def test_no_condition_escapes(text):
    event = copy.deepcopy(EVENT)
    compiler = Expressions(variables=VARIABLES)
    condition = taken(compiler.condition, text)
    if condition is None:
        return
    assert attributes(condition.test) <= {"get"}
    assert type(result(condition, event)) in (bool, type(MISSING))
    for part in parts(divide(text)):  # as `explain` does
        compiler.condition(part)
        compiler.reads(part)
    assert msgspec.json.encode(event) == msgspec.json.encode(EVENT)


@escaping
@given(st.lists(templates, min_size=1, max_size=2))
def test_no_template_escapes(texts):
    event = copy.deepcopy(EVENT)
    compiler = Expressions(variables=VARIABLES)
    compiled = [taken(compiler.template, text) for text in texts]
    if None in compiled:
        return
    template = compiler.template({"a": texts, "b": texts[0]}, "map")
    assert attributes(template._fill) <= {"get", "append"}
    made = result(template, event)
    assert made is MISSING or is_plain(made)
    assert msgspec.json.encode(event) == msgspec.json.encode(EVENT)
