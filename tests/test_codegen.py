import ast

import pytest

from eventrouter.codegen import Code, assigned, encodable, get_from, load, locate
from eventrouter.operators import Operators
from eventrouter.values import MISSING


def test_a_function_takes_an_event_and_its_source():
    code = Code(Operators(strict=True))
    result = ast.Return(value=code.call("eq", load("source"), get_from(load("event"), "a")))
    locate(result, 1)
    function = code.function([result])
    assert (function({"a": "x"}, "x"), function({}, "x")) == (True, False)


def test_a_function_has_no_built_ins():
    code = Code(Operators(strict=True))
    result = ast.Return(value=load("open"))
    locate(result, 1)
    with pytest.raises(NameError):
        code.function([result])({}, "")


def test_only_code_that_makes_something_begins_to_count():
    counted = {}
    for name in ("eq", "lt", "mul", "add", "cut", "make_list", "make_object", "join_text"):
        code = Code(Operators(strict=True))
        result = ast.Return(value=code.call(name, *[load("source")] * (3 if name == "cut" else 2)))
        locate(result, 1)
        code.function([result])
        counted[name] = "begin" in code.namespace
    assert counted == {
        **dict.fromkeys(("eq", "lt", "mul"), False),
        **dict.fromkeys(("add", "cut", "make_list", "make_object", "join_text"), True),
    }


def test_lines_are_given_once():
    node = ast.Return(value=assigned("t1", load("M")))
    locate(node.value, 7)
    locate(node, 3)
    assert (node.lineno, node.value.lineno, node.value.value.lineno) == (3, 7, 7)


def test_temporary_names_are_fresh():
    code = Code(Operators(strict=True))
    assert len({code.temporary() for _ in range(10)}) == 10
    assert code.namespace["M"] is MISSING


def test_texts_that_cannot_be_sent_are_known():
    assert (encodable("ü🎈"), encodable("\ud800")) == (True, False)
