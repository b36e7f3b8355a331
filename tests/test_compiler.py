import ast

import pytest
from jinja2 import Environment
from jinja2.parser import Parser

from eventrouter.compiler import ROOTS, Compiler
from eventrouter.expressions import ExpressionError, Expressions
from eventrouter.operators import Operators


def compiled(text, filters=None):
    compiler = Compiler(Operators(strict=True), filters or {})
    return compiler, compiler.expression(Parser(Environment(), text, state="variable").parse_expression())


@pytest.mark.parametrize(
    ("text", "value"),
    [("1 + 2 * 3", 7), ("-5", -5), ("'a' | upper", "A"), ("7 // 2", 3), ("'5' | int", 5)],
)
def test_what_is_known_is_computed_once(text, value):
    _, code = compiled(text)
    assert isinstance(code, ast.Constant)
    assert code.value == value


@pytest.mark.parametrize("text", [*ROOTS, "properties.a['b'][0][1:2]", "event | default('x') | upper ~ 1 in [type]"])
def test_the_code_reaches_nothing_but_its_namespace(text):
    """Every name is a local or ours, and `.get` is the only attribute."""
    compiler, code = compiled(text)
    compiler.namespace.pop("__builtins__")
    for node in ast.walk(code):
        if isinstance(node, ast.Attribute):
            assert node.attr == "get"
        if isinstance(node, ast.Name):
            known = {*compiler.namespace, "event", "source"}
            assert node.id in known or (node.id[0] == "t" and node.id[1:].isdigit())


def test_a_users_text_is_only_ever_a_constant():
    _, code = compiled("properties['__class__'] == '__import__(\"os\")'")
    texts = [node.value for node in ast.walk(code) if isinstance(node, ast.Constant)]
    assert {"__class__", '__import__("os")'} <= set(texts)
    assert not any("__" in str(getattr(node, "id", "")) for node in ast.walk(code))


def test_faults_are_collected():
    compiler, _ = compiled("a.b == c | nothing")
    assert [fault.message for fault in compiler.faults] == [
        "uses the unknown name `a`",
        "uses the unknown name `c`",
        "uses the unknown filter `nothing`",
    ]


def test_the_arguments_of_a_plugins_filter_are_checked_where_its_signature_is_known():
    compiler, _ = compiled("type | f(1, 2)", {"f": lambda value, one: value})
    assert [fault.hint for fault in compiler.faults] == ["too many positional arguments"]
    compiler, _ = compiled("type | f(1)", {"f": max})
    assert compiler.faults == []


@pytest.mark.parametrize(
    ("text", "offset", "what"),
    [
        ('event == "A" or "B"', 16, "text by `or`"),
        ('type == "page" and (event or "B")', 29, "text by `or`"),
        ("not (event and 1)", 15, "a number by `and`"),
    ],
)
def test_a_text_or_a_number_is_no_operand_of_and_and_or_in_a_condition(text, offset, what):
    with pytest.raises(ExpressionError) as caught:
        Expressions().condition(text)
    (fault,) = caught.value.faults
    assert (fault.offset, fault.message) == (offset, f"joins {what}, which compares it with nothing")


def test_a_template_may_put_a_text_in_the_place_of_what_is_missing():
    assert Expressions().template("{{ properties.coupon or 'none' }}")({}, "") == "none"
