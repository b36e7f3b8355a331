"""How conditions and templates are read: trees whose nodes know their places."""

import pytest

from eventrouter.syntax import ExpressionError, parse_condition, parse_template, parse_value, replace, size, words


def test_the_words_of_a_condition_have_their_offsets():
    assert words('type  == "a b" and\n(name)') == [
        (0, "type"),
        (6, "=="),
        (9, '"a b"'),
        (15, "and"),
        (19, "("),
        (20, "name"),
        (24, ")"),
    ]
    with pytest.raises(ExpressionError):
        words("type ==")


def kinds(node):
    return type(node).__name__, [type(child).__name__ for child in node.iter_child_nodes()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("Const", [])),
        ("plain", ("Const", [])),
        ("{{ event }}", ("Name", [])),
        ("{{ event }}!", ("Concat", ["Name", "TemplateData"])),
        ("{{ event and type }}", ("And", ["Name", "Name"])),
        ("{# nothing #}", ("Const", [])),
    ],
)
def test_a_template_is_a_constant_an_expression_or_joined(text, expected):
    assert kinds(parse_template(text)) == expected


def test_the_nodes_of_a_tree_have_their_offsets_as_line_numbers():
    tree = parse_condition("event == name")
    assert (tree.expr.lineno, tree.ops[0].expr.lineno) == (0, 9)
    assert [node.lineno for node in parse_template("a {{ event }} b", 7).nodes] == [7, 7, 7]


def test_a_json_value_becomes_a_tree_with_its_texts_as_templates():
    tree = parse_value({"a": [1, None, "{{ event }}"]}, 5)
    (pair,) = tree.items
    assert (pair.key.value, [type(item).__name__ for item in pair.value.items]) == ("a", ["Const", "Const", "Name"])
    assert tree.lineno == pair.value.items[2].lineno == 5


def test_nodes_are_replaced_wherever_they_are():
    other = parse_condition("type")
    tree = replace(
        parse_condition("event in [event, name | default(event)]"),
        lambda node: other if type(node).__name__ == "Name" and node.name == "event" else None,
    )
    assert tree.expr is other
    items = tree.ops[0].expr.items
    assert (items[0] is other, items[1].args[0] is other) == (True, True)


@pytest.mark.parametrize(
    ("text", "offset", "hint"),
    [
        ("event = 'a'", 6, "compare with =="),
        ("event && type", 6, "write `and`"),
        ("event ||", 7, "write `or`"),
        ("event ==", 8, "something is missing at its end"),
        ("event == 'a", 9, "the text that begins here has no end quote"),
        ("{{ event }}", 0, "a condition is written without {{ }}"),
    ],
)
def test_what_is_no_condition_is_told_with_its_place(text, offset, hint):
    with pytest.raises(ExpressionError) as caught:
        parse_condition(text)
    (fault,) = caught.value.faults
    assert (fault.offset, fault.hint) == (offset, hint)


def test_the_size_of_a_tree_is_the_number_of_its_nodes():
    assert [size(parse_condition(text)) for text in ("type", "type == 'a'", "[1, 2, 3]")] == [1, 4, 4]
    assert size(parse_value({"a": [1, "{{ type }}"]}, 0)) == 6
