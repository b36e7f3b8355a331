"""Texts made by chance that try to escape from expressions: Jinja's whole language, and all that is nasty in it."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from jinja2.defaults import DEFAULT_FILTERS, DEFAULT_NAMESPACE, DEFAULT_TESTS

from eventrouter.filters import FILTERS, TESTS

EVENT: dict[str, Any] = {
    "type": "track",
    "event": "Order Completed",
    "messageId": "m1",
    "userId": "u1",
    "properties": {
        "__class__": "a value", "items": [{"id": "a", "price": 2}, {"id": "b", "price": 3.5}, {}], "get": 1, "a.b": 2,
        "update": {"keys": ["b", "a"]}, "": 0, "list": list(range(900)), "text": "<a> %s {0.__class__} 😀" * 90,
        "big": 2**4000, "small": -1e-300, "none": None, "yes": True, "rows": [[1, "a"], [2, None]] * 40,
        "format": "%s%99999999d{:>99999999}",
    },
    "context": {"page": {"url": "https://example.com/a?b=1"}, "deep": [[[[[{"er": [1.5, "x"]}]]]]]},
    "traits": {},
}  # fmt: skip
"""An event with what makes trouble elsewhere: keys called like methods, texts like formats, large and small numbers."""

DUNDERS = (
    "__class__", "__mro__", "__base__", "__subclasses__", "__globals__", "__init__", "__builtins__", "__dict__",
    "__import__", "__getattribute__", "__code__", "__self__", "__func__", "__reduce_ex__", "__setitem__", "__doc__",
    "mro", "gi_frame", "f_back", "f_locals", "func_globals", "_fold", "spend", "mismatches",
)  # fmt: skip
METHODS = (
    "append", "clear", "pop", "update", "setdefault", "sort", "extend", "format", "format_map", "encode", "join",
    "center", "ljust", "zfill", "translate", "get", "items", "keys", "__class__", "read", "system",
)  # fmt: skip
NAMES = (
    "event", "properties", "properties.items", "properties.list", "properties.text", "properties.rows", "source",
    "properties.big", "properties.none", "properties.format", "properties.update.keys", "context", "userId", "traits.x",
)  # fmt: skip
STRANGERS = (
    *DEFAULT_NAMESPACE, "self", "loop", "caller", "varargs", "kwargs", "super", "request", "config", "M", "t1", "get",
    "begin", "filter_upper", "__builtins__", "True", "None", "vars", "vars.big", "vars.loop", "open", "eval", "type",
)  # fmt: skip
CONSTANTS = (
    "0", "1", "-1", "7", "2.5", "1e300", "0x7f", "10000000000", "9" * 300, "true", "none", "''", "'a'", "'id'",
    "'x' 'y'", "'%99999999d'", "'{:>99999999}'", "'{0.__class__.__init__.__globals__}'", "'\\u0000'", "'\\x00\\n'",
    "'ß'", "'price'", "'__class__'", "[]", "{}", "()", "(1,)", "'a.a.a.a.a'", "'{{ 1 }}'", "'}}'", "'ŉ' | upper",
)  # fmt: skip
OPERATORS = ("+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", ">=", "and", "or", "in", "not in")
VARIABLES = {"big": "{{ properties.text }}" * 3, "rows": [{"id": "{{ userId }}"}] * 20, "n": 3}
"""The `vars:` that the texts know."""


def _pick(*of: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([one for some in of for one in ((some,) if isinstance(some, str) else some)])


def _text(form: str, *parts: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    return st.builds(form.format, *parts)


_names = _pick(NAMES, NAMES, NAMES, ("vars.big", "vars.rows", "vars.n"))
_atoms = _names | _names | _pick(CONSTANTS) | _pick(CONSTANTS, STRANGERS)
_our_filters = _pick(tuple(sorted(FILTERS)), ("default",))
_filters = _our_filters | _our_filters | _pick(tuple(sorted(DEFAULT_FILTERS)), "attr", "format", "center", "xmlattr")
_tests = _pick(tuple(TESTS)) | _pick(tuple(sorted(DEFAULT_TESTS)))
_keys = _pick(("id", "price", "items", "x", "0", "keys")) | _pick(DUNDERS, METHODS)


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    good = (
        st.builds(lambda a, operator, b: f"({a} {operator} {b})", inner, _pick(OPERATORS), inner)
        | _text("({} | {})", inner, _our_filters)
        | _text("({} | {}({}))", inner, _our_filters, inner)
        | _text("({} | {}(attribute={}))", inner, _pick(("map", "sum", "sort", "max", "join")), _pick(CONSTANTS))
        | _text("({} | replace({}, {}))", inner, inner, inner)
        | _text("({} | join({}))", inner, inner)
        | _text("({} if {} else {})", inner, inner, inner)
        | _text("({} is {})", inner, _tests)
        | _text("{}[{}]", inner, inner)
        | _text("{}[{}:{}]", inner, inner, inner)
        | _text("[{}, {}]", inner, inner)
        | _text("{{'a': {}, 'a': {}}}", inner, inner)
        | _text("not {}", inner)
        | _text("-{}", inner)
        | st.builds(_chain, inner, _pick(OPERATORS, ", "), st.integers(2, 400))
        | st.builds(lambda value, name, n: f"({value}{f' | {name}' * n})", inner, _our_filters, st.integers(2, 60))
        | st.builds(lambda value, count: f"{'(' * count}{value}{')' * count}", inner, st.integers(2, 80))
        | st.builds(lambda value, count: f"{'[' * count}{value}{']' * count}", inner, st.integers(2, 60))
    )
    nasty = (
        _text("{}.{}", inner, _keys)
        | _text("{}['{}']", inner, _keys)
        | _text("({} | attr('{}'))", inner, _keys)
        | _text("({} | map('{}'))", inner, _keys)
        | _text("({} | map(attribute='{}.{}'))", inner, _keys, _keys)
        | _text("{}.{}({})", inner, _keys, inner)
        | _text("({} | {}({}, {}))", inner, _filters, inner, inner)
        | _text("({} | {}(*{}, **{}))", inner, _filters, inner, inner)
        | _text("({} is {}({}))", inner, _tests, inner)
        | _text("{}({})", _pick(STRANGERS), inner)
        | _text("{}(n={}, a={})", _pick(STRANGERS), inner, inner)
        | _text("{}[::{}]", inner, inner)
        | _text("{{{}: 1}}", inner)
        | _text("{} {}", inner, inner)
        | st.builds(lambda value, name, count: f"{value}{f'.{name}' * count}", inner, _keys, st.integers(2, 80))
    )
    return good | good | good | nasty


def _chain(part: str, operator: str, count: int) -> str:
    """`[a + a + a]`, as long as an expression may be."""
    count = min(count, 7_900 // (len(part) + len(operator) + 2))
    return f"[{f' {operator} '.join([part] * max(count, 1))}]"


expressions: st.SearchStrategy[str] = st.recursive(_atoms, _larger, max_leaves=8)
"""Conditions, most of them valid."""

_statements = (
    _text("{{% for x in {} %}}{}{{% endfor %}}", expressions, expressions)
    | _text("{{% for x in range(9**9) recursive %}}{{{{ loop({}) }}}}{{% endfor %}}", expressions)
    | _text("{{% macro m() %}}{{{{ m() }}}}{{% endmacro %}}{{{{ m({}) }}}}", expressions)
    | _text("{{% set x = {} %}}{{{{ x }}}}", expressions)
    | _text("{{%- {} {} -%}}", _pick(("include", "import", "extends", "from", "do", "if", "raw", "block")), expressions)
    | _text("{{% call(x) {} %}}a{{% endcall %}}", expressions)
    | _text("{{% filter {} %}}a{{% endfilter %}}", _filters)
    | _text("{{% with a = {} %}}{{{{ a }}}}{{% endwith %}}", expressions)
)
_pieces = (
    _text("{{{{ {} }}}}", expressions)
    | _text("{{{{ {} }}}}", expressions)
    | _text("{{{{- {} -}}}} ", expressions)
    | _text("{{# {} #}}", expressions)
    | _pick(("text ", "}}", "{{", "{%", "\n", "{{ }}", "{#", "\\", "😀"))
    | _statements
)
templates: st.SearchStrategy[str] = _text("{{{{ {} }}}}", expressions) | st.lists(_pieces, min_size=1, max_size=3).map(
    "".join
)
"""Templates: expressions, often alone, texts around them, statements."""
