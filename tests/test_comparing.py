import pytest

from eventrouter.comparing import TEXTS
from eventrouter.compiler import ROOTS
from eventrouter.expressions import ExpressionError, Expressions


def faults(text, **options):
    with pytest.raises(ExpressionError) as caught:
        Expressions(**options).condition(text)
    return [(fault.offset, fault.message, fault.hint) for fault in caught.value.faults]


ALL = "the types are track, identify, page, screen, group, alias"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('type == "pagee"', (8, "compares `type` with `pagee`, which is no type of event", "did you mean `page`?")),
        ('"order" != type', (0, "compares `type` with `order`, which is no type of event", ALL)),
        ("type == 1", (8, "compares `type` with a number, which is no type of event", ALL)),
        (
            'event and type in ["page", "trak"]',
            (27, "compares `type` with `trak`, which is no type of event", "did you mean `track`?"),
        ),
        ('type not in ["x"]', (13, "compares `type` with `x`, which is no type of event", ALL)),
    ],
)
def test_a_type_that_no_event_has_is_told_at_its_place(text, fault):
    assert faults(text) == [fault]


def test_a_type_that_a_variable_brings_is_told_where_it_is_used():
    assert [fault[:2] for fault in faults("type == vars.a", variables={"a": "x"})] == [
        (8, "compares `type` with `x`, which is no type of event")
    ]


@pytest.mark.parametrize("text", ['type == "page"', 'properties.type == "x"', "type in [name, 'page']", "type == name"])
def test_other_comparisons_are_fine(text):
    assert Expressions().condition(text).test is not None


def test_where_type_is_no_name_it_is_only_unknown():
    assert [message for _, message, _ in faults('type == "x"', roots=("body",))] == ["uses the unknown name `type`"]


def test_a_type_that_is_no_unicode_is_told_without_it():
    assert all("\ud800" not in message for _, message, _ in faults("type == '\\ud800'"))


def test_what_is_surely_text_is_a_name():
    assert set(ROOTS) >= TEXTS
