import tracemalloc

import pytest

from eventrouter.yaml_file import MapNode, Scalar, data, keys, parse


def read(text, **environ):
    root, faults = parse(text, environ)
    assert faults == []
    return data(root)


def faults(text, **environ):
    return [(fault.line, fault.column, fault.message) for fault in parse(text, environ)[1]]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"),
        ("on", "on"),
        ("y", "y"),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-12", -12),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("2026-11-24", "2026-11-24"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("!!str 12", "12"),
        ("10%", "10%"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_scalars_are_read_as_yaml_1_2_says(text, value):
    result = read(f"a: {text}")["a"]
    assert (type(result), result) == (type(value), value)


def test_structures_are_read():
    assert read("a:\n  - 1\n  - {b: c}\nd: |\n  x\n  y\n") == {"a": [1, {"b": "c"}], "d": "x\ny\n"}


def test_aliases_stand_for_their_values():
    assert read("a: &x {b: [1]}\nc: *x\n") == {"a": {"b": [1]}, "c": {"b": [1]}}


def test_nothing_is_no_document():
    assert parse("# a comment\n", {}) == (None, [])


def test_a_byte_order_mark_does_no_harm():
    assert read("\ufeffa: 1") == {"a": 1}


def test_variables_are_filled_in_as_text_and_never_in_keys():
    assert read("${A}: ${A}\nb: '${A}'\nc: [\"x${A}\"]", A="12") == {"${A}": "12", "b": "12", "c": ["x12"]}


def test_a_missing_variable_is_a_fault_at_its_place():
    assert faults("a: 1\nb: [x, 'y ${GONE} z']\n") == [(2, 11, "the variable GONE is not set")]


def test_a_variable_cannot_change_the_structure():
    assert read("a: ${A}", A="1\nb: {c: d}") == {"a": "1\nb: {c: d}"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3", [(3, 1, "the key `a` comes twice")]),
        ("{a: 1, a: 2}", [(1, 8, "the key `a` comes twice")]),
        ("a: !!python/object:os.system x", [(1, 4, "the tag !!python/object:os.system means nothing here")]),
        ("a: !env X", [(1, 4, "the tag !env means nothing here")]),
        ("[a]: 1", [(1, 1, "a key must be a text")]),
        ("a: {{ b }}", [(1, 5, "a key must be a text")]),
        ("a: 1\n<<: {b: 1}", [(2, 1, "YAML 1.2 has no merge keys (`<<`)")]),
        ('a: "\\ud800"', [(1, 4, "this text is not valid Unicode")]),
        ("a: b: c", [(1, 5, "not valid YAML: mapping values are not allowed here")]),
        ("a:\n\t- b", [(2, 1, "not valid YAML: found character '\\t' that cannot start any token")]),
        ("a: *b", [(1, 4, "not valid YAML: found undefined alias 'b'")]),
        ("a: 1\n---\nb: 2", [(2, 1, "not valid YAML: but found another document")]),
        ("a: \x01", [(1, 4, "not valid YAML: special characters are not allowed")]),
        ("a: &x [*x]", [(1, 4, "it is nested more than 50 levels deep, aliases followed")]),
        ("[" * 2000, [(0, 0, "not valid YAML: it is nested too deeply")]),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text, expected):
    assert faults(text) == expected


def test_several_things_that_are_wrong_are_all_told():
    assert len(faults("a: 1\na: ${GONE}\nb: !x 1\n[c]: 2\n")) == 4


def test_aliases_that_multiply_are_stopped_early():
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n"
    for one, two in zip("abcdefghijkl", "bcdefghijklm", strict=True):
        bomb += f"{two}: &{two} [{','.join([f'*{one}'] * 9)}]\n"
    tracemalloc.start()
    try:
        _, found = parse(bomb, {})
        assert tracemalloc.get_traced_memory()[1] < 200_000_000
    finally:
        tracemalloc.stop()
    assert [fault.message for fault in found] == ["it has more than 100,000 values, aliases followed"]


def test_aliases_of_a_long_text_are_stopped_early():
    root, found = parse(f"a: &a {'x' * 500_000}\nb: [{', '.join(['*a'] * 1000)}]\n", {})
    assert root is None
    assert [fault.message for fault in found] == ["it has texts of more than 4,194,304 characters, aliases followed"]


def test_variables_of_a_long_value_are_stopped_early():
    root, found = parse(f"a: {'${A}' * 10_000}\n", {"A": "x" * 100_000})
    assert root is None
    assert [fault.message for fault in found] == ["it has texts of more than 4,194,304 characters, variables filled in"]
    assert "fewer variables (${NAME})" in found[0].hint


def test_a_value_that_is_not_there_has_the_place_of_its_key():
    root, _ = parse("a:\n  b:\n\n  c: # nothing\nd: 1\n", {})
    assert isinstance(root, MapNode)
    inner = root.values["a"]
    assert isinstance(inner, MapNode)
    assert [(one.line, one.column) for one in inner.values.values()] == [(2, 3), (4, 3)]


def test_the_keys_of_all_objects_are_found():
    root, _ = parse("a: { b: [{ c: 1 }, 2] }\nd: 1\n", {})
    assert root is not None
    assert [key.raw for key in keys(root)] == ["a", "d", "b", "c"]


PLACES = """\
plain: aaa bbb
single: 'it''s ccc'
double: "x \\"y\\" \\u0041 ddd"
folded: >-
   eee
   fff ${VAR} ggg
literal: |
   hhh
     iii
lines: jjj
   kkk
variable: "${VAR} lll ${VAR}${VAR} mmm"
"""


def test_every_character_of_a_scalar_is_found_in_the_file():
    root, _ = parse(PLACES, {"VAR": "a much longer value"})
    assert isinstance(root, MapNode)
    lines = PLACES.splitlines()
    found = []
    for node in root.values.values():
        assert isinstance(node, Scalar)
        for word in "aaa bbb ccc ddd eee fff ggg hhh iii jjj kkk lll mmm".split():  # noqa: SIM905
            if word in node.text:
                line, column = node.place(node.text.index(word))
                assert lines[line - 1][column - 1 : column + 2] == word
                found.append(word)
    assert len(found) == 13
