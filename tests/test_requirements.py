import pytest
from jinja2 import Environment
from jinja2.parser import Parser

from eventrouter.requirements import path_of, paths_read, required


def parsed(text):
    return Parser(Environment(), text, state="variable").parse_expression()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("event", ("event",)),
        ("properties.a.b", ("properties", "a", "b")),
        ("properties['a b'].c", ("properties", "a b", "c")),
        ("properties[0]", None),
        ("properties[event]", None),
        ("'text'.a", None),
        ("event | lower", None),
    ],
)
def test_paths(text, path):
    assert path_of(parsed(text)) == path


def test_the_paths_that_are_read():
    text = "properties.a.b == event and (properties[event] | default(name) or not type) and type"
    read = [("properties", "a", "b"), ("event",), ("properties",), ("event",), ("name",), ("type",), ("type",)]
    assert list(paths_read(parsed(text))) == read


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("event == 'a'", {("event",): {"a"}}),
        ("'a' == event", {("event",): {"a"}}),
        ("event in ('a', 'b')", {("event",): {"a", "b"}}),
        ("event == 'a' and type == 'b'", {("event",): {"a"}, ("type",): {"b"}}),
        ("event == 'a' and event == 'b'", {("event",): set()}),
        ("event == 'a' or event == 'b'", {("event",): {"a", "b"}}),
        ("event == 'a' or type == 'b'", {}),
        ("(event == 'a' or event == 'b') and properties.n > 5", {("event",): {"a", "b"}}),
        ("event == 'a' == type", {}),
        ("event == type", {}),
        ("event in [type]", {}),
        ("event in []", {("event",): set()}),
        ("event == none", {("event",): {None}}),
        ("event == true", {}),
        ("event in ['a', false]", {}),
        ("event not in ['a']", {}),
        ("not event == 'a'", {}),
        ("event", {}),
    ],
)
def test_what_must_hold(text, result):
    assert required(parsed(text)) == result
