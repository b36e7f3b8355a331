import ast

from eventrouter.builder import Builder
from eventrouter.codegen import get_from, load
from eventrouter.compiler import Compiler
from eventrouter.operators import Operators


def build(structure):
    """Builds a structure whose texts name keys of the event."""
    compiler = Compiler(Operators(strict=True), {})
    builder = Builder(compiler, lambda _, text: get_from(load("event"), text))
    builder.add(ast.Return(value=builder.value(structure, "map")))
    return builder, compiler.function(builder.body)


def test_a_structure_is_built_without_what_is_missing():
    _, function = build({"one": "a", "two": ["a", "b", 3, None], "three": {"x": "b", "y": {"z": "b"}}})
    assert function({"a": 1}, "") == {"one": 1, "two": [1, 3, None], "three": {"y": {}}}


def test_each_text_has_its_label_and_line():
    builder, _ = build({"one": "a", "two": ["b", {"x": "c"}]})
    assert builder.labels == ["map.one", "map.two[0]", "map.two[1].x"]
    lines = [node.lineno for statement in builder.body for node in ast.walk(statement) if hasattr(node, "lineno")]
    assert set(lines) == {1, 2, 3}
