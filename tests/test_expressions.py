import contextlib
import copy
import json
import time
import tracemalloc

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventrouter.expressions import MISSING, ExpressionError, Expressions, TemplateError

EVENT = {
    "type": "track",
    "event": "Order Completed",
    "messageId": "m1",
    "userId": "u1",
    "person_id": "p1",
    "properties": {
        "total": 12.5,
        "count": 3,
        "items": [{"id": "a", "price": 2}, {"id": "b", "price": 3.5}, {"id": "c"}],
        "update": "the key",
        "a b": 4,
        "plan": "pro",
        "text": "1e5",
        "flag": True,
        "nothing": None,
        "empty": "",
        "tags": ["new", "eu"],
        "big": 2**70,
        "object": {"deep": {"er": 1}},
    },
    "context": {"page": {"url": "https://example.com/a?b=1"}},
}


def holds(text: str) -> bool:
    return Expressions().condition(text)(EVENT, "website")


def makes(structure):
    return Expressions().template(structure)(copy.deepcopy(EVENT), "website")


def faults(text: str):
    with pytest.raises(ExpressionError) as caught:
        Expressions().condition(text)
    return caught.value.faults


def template_faults(text: str):
    with pytest.raises(ExpressionError) as caught:
        Expressions().check_template(text)
    return caught.value.faults


# -- conditions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "event == 'Order Completed' and properties.total >= 10",
        "type == 'track' or traits.x is defined",
        "source == 'website'",
        "person_id == 'p1'",
        "10 < properties.total < 13",
        "properties.items[0].id == 'a'",
        "properties.items[-1].id == 'c'",
        "properties.update == 'the key'",
        "properties['a b'] == 4",
        "properties.flag",
        "properties.flag is true",
        "properties.nothing is none",
        "properties.nothing == none",
        "properties.total != 5",
        "properties.plan in ['free', 'pro']",
        "properties.plan in ('free', 'pro')",
        "properties.plan in [traits.plan, 'pro']",
        "properties.plan not in ['free']",
        "'new' in properties.tags",
        "'old' not in properties.tags",
        "'Order' in event",
        "'url' in context.page",
        "event is startswith 'Order'",
        "event is not endswith('Started')",
        "properties.tags | length == 2",
        "properties.items | sum(attribute='price') == 5.5",
        "properties.big == 1180591620717411303424",
        "properties.big + 1 == 1180591620717411303425",
        "(properties.total * 2) | int == 25",
        "properties.count % 2 == 1 and properties.count // 2 == 1 and -properties.count == -3",
        "properties.total == 12.5 == properties.total",
        "not properties.empty",
        "true",
        "'a' ~ 1 ~ true == 'a1true'",
        "properties.tags[0:1] == ['new']",
        "event[:5] == 'Order'",
        "(1 if properties.flag else 2) == 1",
        "{'a': properties.count}['a'] == 3",
        "properties.flag == true",
        "properties.flag in [true]",
        "properties.flag not in [1, 1.0]",
        "3.0 in [true, properties.count]",
        "properties.flag in [properties.gone, true]",
        "[properties.flag] != [1]",
    ],
)
def test_a_condition_that_holds(text):
    assert holds(text)


@pytest.mark.parametrize(
    "text",
    [
        "properties.gone",
        "properties.gone == 1",
        "properties.gone != 1",
        "1 != properties.gone",
        "properties.gone < 1",
        "properties.gone >= 1",
        "properties.gone == properties.gone",
        "properties.gone != properties.gone",
        "properties.gone == none",
        "properties.gone.deeper.still == 1",
        "properties.gone in ['a']",
        "properties.gone not in ['a']",
        "properties.gone in [properties.gone]",
        "'a' in properties.gone",
        "'a' not in properties.gone",
        "properties.gone * 2 > 1",
        "properties.gone | int >= 0",
        "properties.gone ~ 'a' != 'b'",
        "properties.items[7] == 1",
        "traits.plan != 'free'",
        "userId.upper != 'x'",
        "event.__class__",
        "properties.keys",
        "groupId != 'g'",
        "properties.gone is none",
        "properties.gone is string",
    ],
)
def test_a_missing_value_is_falsy_and_every_comparison_with_it_is_false(text):
    assert not holds(text)


@pytest.mark.parametrize(
    "text",
    [
        "not properties.gone",
        "not properties.gone == 1",
        "properties.gone is undefined",
        "properties.gone is not defined",
        "properties.gone or properties.flag",
        "properties.gone | default(3) == 3",
        "(properties.empty | default('x', true)) == 'x'",
        "properties.gone | default(traits.gone) | default(1) == 1",
    ],
)
def test_not_or_is_defined_and_default_see_a_missing_value(text):
    assert holds(text)


@pytest.mark.parametrize(
    "text",
    [
        "properties.plan > 5",
        "5 <= properties.plan",
        "properties.items < 3",
        "properties.text == 1",
        "5 in properties.plan",
        "5 in properties.total",
        "5 not in properties.total",
        "properties.plan * 2 == 'propro'",
        "properties.plan - 1 < 5",
        "properties.total / 0 > 1",
        "properties.total | join(',') == 'x'",
        "properties.text != 1",
        "properties.flag == 1",
        "1.0 != properties.flag",
        "properties.flag < 2",
        "properties.flag >= false",
        "properties.tags < ['z']",
    ],
)
def test_mismatched_types_are_false_and_counted(text):
    expressions = Expressions()
    assert not expressions.condition(text)(EVENT, "website")
    assert expressions.mismatches == 1


def test_what_a_page_calls_event_may_be_no_text():
    expressions = Expressions()
    page = {"type": "page", "event": 5, "name": True}
    texts = (
        "event == 'x'",
        "event != 'x'",
        "name != 1",
        "event == properties.x",
        "type == name",
        "event in ['x', true]",
    )
    assert [text for text in texts if expressions.condition(text)(page, "")] == []
    assert expressions.condition("event == 5 and name == true")(page, "")


@pytest.mark.parametrize("text", ["properties.nothing > 1", "properties.gone > 1", "event == 'x'", "groupId == 'x'"])
def test_null_and_missing_values_are_no_mismatch(text):
    expressions = Expressions()
    assert not expressions.condition(text)(EVENT, "website")
    assert expressions.mismatches == 0


def test_a_constant_condition_says_so():
    assert [Expressions().condition(text).constant for text in ("true", "0", "properties.x")] == [True, False, None]


@pytest.mark.parametrize(
    ("text", "required"),
    [
        ("event == 'A' and properties.total > 1", {("event",): {"A"}}),
        ("'A' == event and type == 'track'", {("event",): {"A"}, ("type",): {"track"}}),
        ("event in ['A', 'B'] or event == 'C'", {("event",): {"A", "B", "C"}}),
        ("event == 'A' or properties.x", {}),
        ("event in ['A', 'B'] and event in ['B', 'C']", {("event",): {"B"}}),
        (
            "properties['plan'] == 1 and context.page.url == 'x'",
            {("properties", "plan"): {1}, ("context", "page", "url"): {"x"}},
        ),
        ("not event == 'A'", {}),
        ("event != 'A'", {}),
        ("event in ['A', userId]", {}),
    ],
)
def test_what_a_condition_requires_is_known(text, required):
    assert Expressions().condition(text).required == required


# -- templates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ properties.total }}", 12.5),
        ("{{properties.flag}}", True),
        ("{{ properties.text }}", "1e5"),
        ("{{ properties.nothing }}", None),
        ("{{ properties.tags }}", ["new", "eu"]),
        ("{{ properties.big }}", 2**70),
        ("{{ properties.total * 100 }}", 1250.0),
        ("{{ (properties.total * 100) | int }}", 1250),
        ("{{ properties.total | string }}", "12.5"),
        ("Order {{ properties.count }}: {{ properties.total }}", "Order 3: 12.5"),
        (" {{ properties.count }}", " 3"),
        ("{{ properties.flag }}!", "true!"),
        ("{{ properties.tags }} {{ properties.object }}", '["new","eu"] {"deep":{"er":1}}'),
        ("{{ properties.gone }}", MISSING),
        ("a {{ properties.gone }}", MISSING),
        ("a {{ properties.nothing }}", MISSING),
        ("{{ properties.gone * 2 }}", MISSING),
        ("{{ properties.nothing * 2 }}", MISSING),
        ("{{ properties.gone | upper }}", MISSING),
        ("{{ properties.gone | default('none') }}", "none"),
        ("{{ [1, properties.gone] }}", MISSING),
        ("{{ {'a': properties.gone} }}", MISSING),
        ("{{ 'x' if properties.gone }}", MISSING),
        ("{{ 'x' if properties.gone else 'y' }}", "y"),
        ("{{ [1, properties.count] }}", [1, 3]),
        ("{{ {'a': properties.count} }}", {"a": 3}),
        ("{{ properties.items | map(attribute='id') | join(', ') }}", "a, b, c"),
        ("{{ properties.plan | upper }}", "PRO"),
        ("no template", "no template"),
        ("line\n", "line\n"),
        ("{{ properties.count }}\n", "3\n"),
        ("", ""),
        ("{{ '{{' }} {{ properties.count }}", "{{ 3"),
        ("a{# a comment #}{{ source }}", "awebsite"),
        (
            "{{ ' A@B.com ' | trim | lower | sha256 }}",
            "fb98d44ad7501a959f3f4f4a3f004fe2d9e581ea6207e218c4b02c08a4d75adf",
        ),
    ],
)
def test_a_template_makes(text, value):
    assert json.dumps(makes(text), default=repr) == json.dumps(value, default=repr)


def test_templates_keep_their_structure_and_leave_out_what_has_a_missing_part():
    structure = {
        "text": "Order {{ properties.count }}",
        "gone": "{{ properties.gone }}",
        "constants": [1, 2.5, True, None, "x"],
        "list": ["{{ properties.gone }}", "{{ properties.count }}"],
        "inner": {"gone": "a{{ traits.x }}", "there": {"total": "{{ properties.total }}"}},
    }
    assert makes(structure) == {
        "text": "Order 3",
        "constants": [1, 2.5, True, None, "x"],
        "list": [3],
        "inner": {"there": {"total": 12.5}},
    }


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": "{{ userId }}"}, {"a": "{{userId}}"}, True),
        ({"a": "{{ vars.who }}"}, {"a": "{{ userId }}"}, True),
        ({"a": "{{ userId }}"}, {"a": "{{ anonymousId }}"}, False),
        ({"a": "{{ userId }}"}, {"b": "{{ userId }}"}, False),
        ({"a": [1]}, {"a": [1.0]}, False),
        ({"a": 1}, {"a": True}, False),
        ("{{ name | upper }}", "{{ name | lower }}", False),
    ],
)
def test_two_ways_to_write_one_structure_are_known(one, other, same):
    expressions = Expressions(variables={"who": "{{ userId }}"})
    assert (expressions.same(one) == expressions.same(other)) is same


def test_each_value_is_built_anew():
    template = Expressions().template({"a": [1], "b": {"c": "x"}})
    first, second = template(EVENT, ""), template(EVENT, "")
    assert first == second
    assert first["a"] is not second["a"]
    assert first["b"] is not second["b"]


def test_fields_come_back_in_order_with_missing_ones_marked():
    fields = Expressions().fields({"a": "{{ properties.gone }}", "b": 1, "c": "{{ type }}", "d": {"e": "{{ userId }}"}})
    assert fields(EVENT, "") == [MISSING, 1, "track", {"e": "u1"}]


@pytest.mark.parametrize(
    ("structure", "message"),
    [
        ({"a": 1, "b": {"c": "{{ properties.plan * 3 }}"}}, "`map.b.c` `*` has no meaning for text and a number"),
        (["x", "{{ properties.total / 0 }}"], "`map[1]` `/` divides by zero"),
        ("{{ properties.tags | upper }}", "`map` the filter `upper` needs text, not a list"),
    ],
)
def test_a_failing_template_names_its_field(structure, message):
    with pytest.raises(TemplateError) as caught:
        Expressions().template(structure, "map")(EVENT, "")
    assert str(caught.value) == message


def test_a_failing_field_is_named():
    fields = Expressions().fields({"a.b": "{{ type }}", "c.d": "{{ properties.plan - 1 }}"}, "set")
    with pytest.raises(TemplateError, match=r"`set c\.d` `-` has no meaning for text and a number"):
        fields(EVENT, "")


# -- plugins' filters ----------------------------------------------------------------------------------------------


def test_a_plugins_filter_takes_part():
    expressions = Expressions({"shout": lambda value, mark="!": f"{value}{mark}"})
    assert expressions.template("{{ type | shout('?') }}")(EVENT, "") == "track?"
    assert expressions.template("{{ traits.x | shout }}")(EVENT, "") is MISSING


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda value: object(), "`map` the filter `f` returned object, which is not JSON"),
        (lambda value: [[(1,)]], "`map` the filter `f` returned tuple, which is not JSON"),
        (lambda value: float("nan"), "`map` the filter `f` makes a number that is too large"),
        (lambda value: "a" * 10**6, "`map` the filter `f` makes a text of more than 262,144 characters"),
        (lambda value: [0] * 10**5, "`map` the filter `f` returned too much"),
        (lambda value: {}["secret"], "`map` the filter `f` failed with KeyError"),
    ],
)
def test_a_plugins_filter_that_misbehaves_is_named(function, message):
    with pytest.raises(TemplateError) as caught:
        Expressions({"f": function}).template("{{ type | f }}", "map")(EVENT, "")
    assert str(caught.value) == message


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "offset", "hint"),
    [
        ("event = 'Order Completed' and properties.total > 100", 6, "compare with =="),
        ("event === 'x'", 8, "compare with =="),
        ("event == 'a' && true", 13, "write `and`"),
        ("event == 'a' || true", 14, "write `or`"),
        ("!event", 0, "write `not event`"),
        ("!(event == 'a')", 0, "write `not`"),
        ("properties.total => 5", 17, "compare with >="),
        ("properties.total =< 5", 17, "compare with <="),
        ("event <> 'a'", 7, "compare with !="),
        ("event `a`", 6, "`'a'` makes no sense here; join with `and` or `or`, put texts in quotes"),
        ("event ==", 8, "something is missing at its end"),
        ("(event == 'a'", 13, "something is missing at its end"),
        ("", 0, "something is missing at its end"),
        ("event == 'a", 9, "the text that begins here has no end quote"),
        ("event == 'a'\n  && true", 15, "write `and`"),
        ("{{ event }}", 0, "a condition is written without {{ }}"),
        ("event == '\\d'", 9, "write \\\\ for a backslash in a text"),
    ],
)
def test_a_syntax_error_has_its_place_and_a_hint(text, offset, hint):
    (fault,) = faults(text)
    assert (fault.offset, fault.message, fault.hint) == (offset, "is not a valid expression", hint)


@pytest.mark.parametrize(
    ("text", "offset", "message", "hint"),
    [
        ("evnt == 'a'", 0, "uses the unknown name `evnt`", "did you mean `event`?"),
        (
            "type == total",
            8,
            "uses the unknown name `total`",
            "write `properties.total` or `traits.total`; a text needs quotes",
        ),
        ("event == null", 9, "uses the unknown name `null`", "write `none`, or `is not defined`"),
        ("event | uper == 'A'", 8, "uses the unknown filter `uper`", "did you mean `upper`?"),
        ("event is in ['a']", 6, "uses the unknown test `is in`", "write `in`, or `not in`, without `is`"),
        (
            "properties.first-name == 'a'",
            17,
            "subtracts a name from a value",
            'a key with a dash is written ["first-name"]',
        ),
        (
            "properties.a-b.c == 'a'",
            14,
            "subtracts a name from a value",
            'a key with a dash is written ["a-b"].c',
        ),
        ("userId == 5", 10, "compares `userId`, which is text, with a number", 'put quotes around it: "5"'),
        ("-5 != anonymousId", 0, "compares `anonymousId`, which is text, with a number", 'put quotes around it: "-5"'),
        ("source == true", 10, "compares `source`, which is text, with true/false", 'put quotes around it: "true"'),
        ("messageId < 5", 12, "compares `messageId`, which is text, with a number", 'put quotes around it: "5"'),
        (
            "person_id in ['a', 5]",
            19,
            "compares `person_id`, which is text, with a number",
            'put quotes around it: "5"',
        ),
        ("event is strng", 6, "uses the unknown test `is strng`", "did you mean `is string`?"),
        (
            "event | replace('a') == ''",
            8,
            "gives the filter `replace` wrong arguments",
            "missing a required argument: 'new'",
        ),
        (
            "event.startswith('x')",
            5,
            "calls `startswith(…)`, but there are no functions",
            'write `… is startswith "…"`',
        ),
        (
            "event.lower() == 'x'",
            5,
            "calls `lower(…)`, but there are no functions",
            "it is a filter: write `… | lower`",
        ),
        ("range(9)", 0, "calls `range(…)`, but there are no functions", "there are no loops"),
        ("properties.total > 1 / 0", 19, "`/` divides by zero", ""),
        ("'a' * 1000000000 == event", 0, "uses `*` on text", "join texts with ~"),
        ("event == '%d' % 5", 9, "uses `%` on text", "join texts with ~"),
        ("properties.total > 2 ** 9", 19, "uses `**`, which expressions do not have", "multiply instead"),
        ("'abc' | round == 1", 8, "can never work: the filter `round` needs a number, not text", ""),
    ],
)
def test_what_can_never_work_is_refused_at_its_place(text, offset, message, hint):
    fault = faults(text)[0]
    assert (fault.offset, fault.message, fault.hint) == (offset, message, hint)


@pytest.mark.parametrize(
    "text",
    [
        "event == 5",
        "userId != none",
        "userId == properties.id",
        "name == 5",
        "properties.total-properties.discount > 5",
        "properties.a - version == 1",
    ],
)
def test_what_may_be_true_is_no_fault(text):
    assert Expressions().condition(text).constant is None


def test_all_unknown_names_of_an_expression_are_told():
    assert [fault.offset for fault in faults("evnt == 'a' and tipe == 'b' or foo | bar")] == [0, 16, 31, 37]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("{% for x in y %}{% endfor %}", "there are no {% %} statements; write {{ a if condition else b }}"),
        ("{% raw %}{{ x }}{% endraw %}", "there are no {% %} statements; write {{ a if condition else b }}"),
        ("{{ event", "something is missing at its end"),
        ("{# open", "`{#` begins a comment, which has no end `#}`"),
        ("{{ event = 'a' }}", "compare with =="),
    ],
)
def test_a_template_with_a_syntax_error_gets_a_hint(text, hint):
    assert [(fault.message, fault.hint) for fault in template_faults(text)] == [("is not a valid expression", hint)]


@pytest.mark.parametrize(
    "text",
    [
        "(" * 4000,
        "not " * 1900 + "true",
        "[" * 3000 + "]" * 3000,
        "-" * 7000 + "1 == 1",
        "properties" + ".a" * 3900,
        "1" * 7000 + " == 1",
        "1e999 == 1",
        "event == 'a' or " * 1000 + "true",
        "'\\ud800' == event",
        "properties.x | default('a') " + "| upper" * 900,
    ],
)
def test_monsters_are_refused_at_once(text):
    began = time.perf_counter()
    assert faults(text)
    assert time.perf_counter() - began < 10


def test_a_long_chain_of_or_is_no_monster():
    text = " or ".join(f"event == 'Event {i}'" for i in range(300))
    assert not Expressions().condition(text)(EVENT, "")


HOSTILE = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ properties.__class__ }}",
    "{{ properties['__class__']['__init__'] }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ self }}",
    "{{ properties.items.append(1) }}",
    "{{ properties.update({'a': 1}) }}",
    "{{ properties | attr('__class__') }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '{:>999999999}'.format(1) }}",
    "{{ 'a'.center(1000000000) }}",
    "{{ 'a' | center(1000000000) }}",
    "{{ 'a' | indent(1000000000) }}",
    "{{ properties.plan * 1000000000 }}",
    "{{ properties.tags * 1000000000 }}",
    "{{ 10 ** 10 ** 10 }}",
    "{{ range(1000000000) | list }}",
    "{{ lipsum(n=100000) }}",
    "{{ [1, 2] | batch(1000000000, 0) | list }}",
    "{{ dict(a=1) }}",
    "{{ namespace(a=1) }}",
    "{% set x = 1 %}",
    "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "{% include '/etc/passwd' %}",
    "{% for i in range(1000000) %}{% for j in range(1000000) %}a{% endfor %}{% endfor %}",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_templates_are_refused_or_reach_nothing(text):
    try:
        template = Expressions().template(text)
    except ExpressionError:
        return
    try:
        assert template(copy.deepcopy(EVENT), "") is MISSING
    except TemplateError:
        return


@pytest.mark.parametrize(
    "text",
    [
        "{{ properties.long | replace('a', properties.long) }}",
        "{{ properties.many | join(properties.long) }}",
        "{{ " + " ~ ".join(["properties.long"] * 400) + " }}",
        "{{ " + " * ".join(["properties.wide"] * 45) + " }}",
        "{{ " + " + ".join(["properties.many"] * 45) + " }}",
        "{{ properties.huge | string }}",
        "{{ properties.huge * 2 }}",
        "{{ 1e308 * properties.ten }}",
    ],
)
def test_work_and_memory_are_bounded_at_run_time(text):
    event = {
        "properties": {
            "long": "a" * 30_000,
            "many": ["x"] * 5_000,
            "wide": 2**100,
            "huge": 2**20_000,
            "ten": 10,
        }
    }
    template = Expressions().template(text)
    tracemalloc.start()
    began = time.perf_counter()
    try:
        with pytest.raises(TemplateError):
            template(event, "")
        assert time.perf_counter() - began < 10
        assert tracemalloc.get_traced_memory()[1] < 50_000_000
    finally:
        tracemalloc.stop()


LONG = "x" * 30_000


@pytest.mark.parametrize(
    ("text", "properties"),
    [
        ("[" + ", ".join([" ~ ".join(["properties.a"] * 8)] * 60) + "]", {"a": LONG}),
        ("[" + ", ".join([" ~ ".join(["properties.a"] * 8)] * 60) + "] | tojson", {"a": LONG}),
        ("[" + ", ".join(["properties.a | replace('x', properties.a)"] * 180) + "]", {"a": "x" * 511}),
        ("[" + ", ".join(["properties"] * 600) + "] | tojson", {"a": LONG}),
        ("properties ~ " * 600 + "1", {"a": LONG}),
        ("[" + ", ".join(["properties.a | urlencode"] * 290) + "] == 1", {"a": "😀" * 7_900}),
        ("[" + ", ".join(["properties.a | reverse"] * 300) + "] == 1", {"a": [0] * 10_000}),
        ("[" + ", ".join(["properties.a[0:]"] * 400) + "] == 1", {"a": [0] * 10_000}),
        ("[" + ", ".join(["properties.a | list"] * 350) + "] == 1", {"a": LONG[:10_000]}),
        ("[" + ", ".join(["properties.a | map(attribute='b')"] * 200) + "] == 1", {"a": [0] * 10_000}),
    ],
)
def test_what_one_evaluation_makes_in_all_is_bounded(text, properties):
    condition = Expressions().condition(text)
    assert condition.test is not None
    for compiled in (condition, Expressions().template("{{ " + text + " }}")):
        tracemalloc.start()
        try:
            with pytest.raises(TemplateError):
                compiled({"properties": properties}, "")
            assert tracemalloc.get_traced_memory()[1] < 10_000_000
        finally:
            tracemalloc.stop()


def test_each_evaluation_counts_from_nothing():
    expressions = Expressions()
    template = expressions.template({"a": "{{ properties.a ~ 'x' }}"})
    condition = expressions.condition("properties.a ~ 'x' == 'y' or properties.a | upper == 'y'")
    event = {"properties": {"a": LONG}}
    for _ in range(50):
        assert len(template(event, "")["a"]) == 30_001
        assert not condition(event, "")


def test_a_condition_that_compares_large_lists_again_and_again_is_stopped():
    numbers = list(range(7_500))
    condition = Expressions().condition(" or ".join(["properties.a != properties.b"] * 200))
    with pytest.raises(TemplateError, match="looks through more than"):
        condition({"properties": {"a": numbers, "b": list(numbers)}}, "")


def test_the_fields_of_a_map_count_together():
    fields = {f"f{n}": "{{ properties.a ~ 'x' }}" for n in range(50)}
    with pytest.raises(
        TemplateError, match=r"`map\.f33` makes or looks through more than 1,000,000 characters and items"
    ):
        Expressions().template(fields, "map")({"properties": {"a": LONG}}, "")


def test_deep_values_fail_cleanly():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    event = {"properties": {"a": deep, "b": "x"}}
    with pytest.raises(TemplateError):
        Expressions().template("x{{ properties.a }}")(event, "")
    while deep:  # a deep list that is freed at once is a deep recursion
        deep = deep[0]


WORDS = st.sampled_from([
    "event", "properties", "properties.plan", "properties.items", "properties.tags", "traits.x", "'a'", "'%99999d'",
    "0", "7", "-1", "2.5", "1e300", "99999999999999999999", "true", "none", "[]", "{}", "source", "self", "cycler",
    "properties.__class__", "''.__class__", "properties.update", "properties['__init__']", "properties.big",
])  # fmt: skip
GLUE = st.sampled_from([
    "+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", ">=", "and", "or", "in", "not in", "|", "is", ".", ",",
    "| int", "| float", "| string", "| upper", "| join('a')", "| replace('a', 'bbbbbbbb')", "| sort", "| list |",
    "| map(attribute='id') |", "| default(", "(", ")", "[", "]", "[0]", "[:3]", "if", "else", "is defined and", "()",
    ".format(", ".__globals__", "| attr('__class__')", "}}", "{{", "{%", "%}", "{#", "\n", "\\", "'",
])  # fmt: skip


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(WORDS, GLUE), min_size=1, max_size=12), WORDS)
def test_no_text_escapes_or_hurts(parts, last):
    text = " ".join(f"{word} {glue}" for word, glue in parts) + f" {last}"
    event = copy.deepcopy(EVENT)
    expressions = Expressions()
    for compile_it, source in ((expressions.condition, text), (expressions.template, "{{ " + text + " }}")):
        try:
            compiled = compile_it(source)
        except ExpressionError as error:
            assert all(0 <= fault.offset <= len(source) and fault.message for fault in error.faults)
            continue
        try:
            value = compiled(event, "website")
        except TemplateError:
            continue
        if value is not MISSING:
            assert len(msgspec.json.encode(value)) < 1_000_000
    assert event == EVENT


LARGE = [
    {"text": "x" * 32_000, "list": ["x"] * 3},
    {"text": "😀" * 8_000, "list": [{"a": "é" * 80}] * 150},
    {"text": "x." * 500, "list": [0] * 15_000},
    {"text": "\x01" * 5_000, "list": [number * (2**61 - 1) for number in range(1, 1_500)]},
    {"text": "a" * 500, "list": [[1] * 150 + [number] for number in range(100)]},
    {"text": "a.a", "list": [{"a": {"a": {"a": {"a": [number, "x" * 5]}}}} for number in range(800)]},
]
"""The properties of events as large as they may be: 32 KB."""
PATHS = st.sampled_from(["properties", "properties.text", "properties.list", "'x'", "7", "context"])
PIPES = st.sampled_from([
    "| sort", "| sort(true, 'a.a')", "| sort(attribute='a'|replace('a', 'a.a.a.a'))", "| map(attribute='a')",
    "| map('a.a.a.a.a.a.a.a.a')", "| map(properties.text)", "| sum(attribute='a')", "| max", "| min('a')", "| unique",
    "| reverse", "| list", "| join('x')", "| join(properties.text, 'a')", "| tojson", "| string", "| split('x')",
    "| split", "| replace('x', properties.text)", "| urlencode", "| sha256", "| upper", "| title", "| length", "| int",
    "| first", "| default(properties)", "[0:]", "[1:9000]", ".list", "[0]",
])  # fmt: skip
BETWEEN = st.sampled_from([", ", " ~ ", " + ", " == ", " or ", " in ", " not in ", " < "])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 5), PATHS, st.lists(PIPES, max_size=4), BETWEEN, st.integers(1, 4_000), st.lists(PIPES, max_size=4)
)
def test_no_text_runs_away_on_a_large_event(number, path, inner, between, count, outer):
    part = "(" + " ".join([path, *inner]) + ")"
    after = "]" + " ".join(["", *outer])
    text = "[" + between.join([part] * max(1, min(count, (7_900 - len(after)) // (len(part) + len(between))))) + after
    event = {"type": "track", "properties": LARGE[number], "context": {"page": {"url": "x" * 500}}}
    before = copy.deepcopy(event)
    for kind, source in (("condition", text), ("template", "{{ " + text + " }}")):
        try:
            compiled = getattr(Expressions(), kind)(source)
        except ExpressionError:
            continue
        with contextlib.suppress(TemplateError):
            compiled({}, "")  # compiles a condition
        began = time.process_time()
        with contextlib.suppress(TemplateError):
            compiled(event, "")
        assert time.process_time() - began < 2
        tracemalloc.start()
        try:
            with contextlib.suppress(TemplateError):
                compiled(event, "")
            assert tracemalloc.get_traced_memory()[1] < 10_000_000
        finally:
            tracemalloc.stop()
    assert event == before


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_compiled_or_refused_with_its_place(text):
    for check in (Expressions().condition, Expressions().check_template):
        try:
            check(text)
        except ExpressionError as error:
            assert all(0 <= fault.offset <= len(text) for fault in error.faults)


@pytest.mark.parametrize(
    "text",
    [
        "not " * 48 + "event",
        "properties" + ".a" * 48,
        "type" + " | upper" * 48,
        "properties.x" + " | default(type)" * 47,
        "[" * 48 + "type" + "]" * 48,
        "-" * 48 + "properties.n",
        "type" + " == (type" * 45 + ")" * 45,
        "1 if type else (" * 45 + "1" + ")" * 45,
        "properties.n" + " + properties.n" * 47,
        "(type and " * 45 + "event" + ")" * 45,
        "type in [" * 45 + "event" + "]" * 45,
        " or ".join(["event == 'x'"] * 450),
        "properties.a" + ("[properties.b" * 40) + "]" * 40,
    ],
)
def test_what_is_accepted_can_also_be_compiled_and_run(text):
    assert Expressions().condition(text).test is not None
    Expressions().condition(text)({"type": "track", "properties": {}}, "")
    Expressions().template({"a": ["{{ " + text + " }}"]})({"type": "track", "properties": {}}, "")


def test_other_roots_are_other_names():
    expressions = Expressions(roots=("body", "headers"))
    value = {"body": {"type": "paid", "n": 3}, "headers": {"x-id": "7"}}
    assert expressions.condition('body.type == "paid" and headers["x-id"] == "7"')(value, "") is True
    assert expressions.template({"n": "{{ body.n + 1 }}", "none": "{{ headers.no }}"})(value, "") == {"n": 4}
    with pytest.raises(ExpressionError) as caught:
        expressions.condition("type == 'paid' or bod.type == 'paid' or source == 'a'")
    assert [(fault.message, fault.hint) for fault in caught.value.faults] == [
        ("uses the unknown name `type`", "write `body.type`; a text needs quotes"),
        ("uses the unknown name `bod`", "did you mean `body`?"),
        ("uses the unknown name `source`", "write `body.source`; a text needs quotes"),
    ]


def test_what_a_condition_reads():
    assert Expressions().reads("properties.a > 1 and type and properties.a < 3") == [("properties", "a"), ("type",)]
