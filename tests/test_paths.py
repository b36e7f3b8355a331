import copy
import re

import pytest

from eventrouter import paths
from eventrouter.values import MISSING, TemplateError

EVENT = {
    "type": "track",
    "properties": {"total": 5, "note": "x", "products": [{"id": 1, "cost": 2}, {"id": 3, "cost": 4}, "loose"]},
    "context": {"my.key": {"id": 7}, "ip": "::1"},
    "userId": None,
}


@pytest.fixture(autouse=True)
def the_event_stays_as_it_is():
    before = copy.deepcopy(EVENT)
    yield
    assert before == EVENT


def tree(*texts: str) -> paths.Tree:
    return paths.tree_of([paths.parse(text) for text in texts])


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("type", ("type",)),
        ("properties.total", ("properties", "total")),
        ("properties.Order Total", ("properties", "Order Total")),
        ('context["my.key"].id', ("context", "my.key", "id")),
        ("context['my.key']", ("context", "my.key")),
        ("$set.a-b", ("$set", "a-b")),
    ],
)
def test_a_path_is_its_keys(text, path):
    assert paths.parse(text) == path


@pytest.mark.parametrize("text", ["", ".a", "a..b", "a.", "a[0]", 'a["b"', " a", "a." * 30 + "a"])
def test_what_is_no_path_is_refused(text):
    with pytest.raises(ValueError):
        paths.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.{{ type }}", "has a template in it"),
        ("a.*", "has a `*`, which stands for no other key"),
        ("**.a", "has a `**`, which stands for no other key"),
    ],
)
def test_what_would_stand_for_other_keys_is_refused(text, message):
    with pytest.raises(paths.PathError, match=re.escape(message)):
        paths.parse(text)


def test_a_star_is_a_key_in_brackets_or_where_there_are_wildcards():
    assert paths.parse('a["*"].b*') == ("a", "*", "b*")
    assert paths.parse("a.*.b", wildcards=True) == ("a", "*", "b")


@pytest.mark.parametrize("both", [("a", "a"), ("a", "a.b"), ("a.b", "a")])
def test_two_paths_of_which_one_holds_the_other_are_refused(both):
    with pytest.raises(ValueError):
        tree(*both)


def test_keep_leaves_only_the_paths():
    assert paths.keep(EVENT, tree("type", "properties.total", "properties.gone", "traits.x")) == {
        "type": "track",
        "properties": {"total": 5},
    }


def test_keep_reaches_into_each_item_of_a_list():
    assert paths.keep(EVENT, tree("properties.products.id")) == {"properties": {"products": [{"id": 1}, {"id": 3}]}}


def test_drop_takes_out_the_paths_in_lists_too():
    dropped = paths.drop(EVENT, tree("properties.note", "properties.products.cost", "context.gone", "type.x"))
    assert dropped["properties"] == {"total": 5, "products": [{"id": 1}, {"id": 3}, "loose"]}
    assert dropped["context"] is EVENT["context"]


def test_drop_of_nothing_is_the_same_value():
    assert paths.drop(EVENT, tree("properties.gone", "properties.products.gone")) is EVENT


def test_change_replaces_each_part():
    changed = paths.change(EVENT, tree("properties.products.id"), lambda part: -part)
    assert changed["properties"]["products"] == [{"id": -1, "cost": 2}, {"id": -3, "cost": 4}, "loose"]


def test_put_makes_objects_on_the_way_and_leaves_out_what_is_missing():
    made = paths.put(EVENT, tree("properties.total", "a.b.c", "userId.x", "d.e"), [6, 1, 2, MISSING])
    assert made == {
        **EVENT,
        "properties": {**EVENT["properties"], "total": 6},
        "a": {"b": {"c": 1}},
        "userId": {"x": 2},
    }


def test_put_leaves_null_alone_when_nothing_is_set_inside_of_it():
    assert paths.put({"a": None}, tree("a.b"), [MISSING]) == {"a": None}


def test_put_inside_of_a_text_is_an_error_that_names_the_place():
    with pytest.raises(TemplateError, match=r"inside of `properties.note`, which is text"):
        paths.put(EVENT, tree("properties.note.x"), [1])


def test_rename_moves_a_value():
    moved = paths.rename(EVENT, ("properties", "total"), ("traits", "sum"))
    assert moved["traits"] == {"sum": 5}
    assert "total" not in moved["properties"]


def test_rename_of_nothing_is_the_same_value():
    assert paths.rename(EVENT, ("properties", "gone"), ("x",)) is EVENT
