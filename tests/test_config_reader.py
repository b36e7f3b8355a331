import pytest

from eventrouter.config_reader import MAX_LINE, Reader, did_you_mean
from eventrouter.expressions import Expressions
from eventrouter.yaml_file import MapNode, Scalar, YamlFault, parse
from routes_kit import PLUGINS


def reading(text, **environ):
    root, _ = parse(text, environ)
    assert isinstance(root, MapNode)
    return Reader("routes.yaml", text, PLUGINS), root.values


def test_problems_come_in_the_order_of_the_file_and_once():
    reader, nodes = reading("a: 1\nb: 2\n")
    for node in (nodes["b"], nodes["a"], nodes["b"]):
        reader.problem(node, "wrong")
    reader.problem(None, "all wrong")
    assert [(one.line, one.column, one.text) for one in reader.problems()] == [
        (0, 0, ""),
        (1, 4, "a: 1"),
        (2, 4, "b: 2"),
    ]


def test_a_secret_is_masked_in_the_line_and_in_messages():
    reader, nodes = reading("a: { key: sesame-open } # x\n")
    reader.secret(nodes["a"])
    reader.problem(nodes["a"], "sesame-open is wrong", "not sesame-open")
    (problem,) = reader.problems()
    assert (problem.text, problem.message, problem.hint) == (
        "a: { key: *********** } # x",
        "********** is wrong",
        "not **********",
    )


def test_a_secret_over_several_lines_is_masked_in_each():
    reader, nodes = reading("a: |\n  sesame\n  open\nb: 1\n")
    reader.secret(nodes["a"])
    reader.problem(nodes["a"], "wrong")
    assert reader.problems()[0].text == "a: *"


def test_what_looks_like_a_secret_is_masked_where_the_file_cannot_be_read():
    reader = Reader("routes.yaml", "api_key: 'sesame\n", PLUGINS)
    reader.fault(YamlFault(1, 10, "not valid YAML"))
    assert reader.problems(readable=False)[0].text == "api_key: *******"


def test_a_very_long_line_is_not_shown():
    reader, nodes = reading(f"a: {'x' * MAX_LINE}\n")
    reader.problem(nodes["a"], "y" * 5000)
    (problem,) = reader.problems()
    assert (problem.text, len(problem.message)) == ("", 1000)


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("tpye", ["type", "event"], "did you mean `type`?"),
        ("xyz", ["type", "event"], "known are type, event"),
        ("xyz", [], ""),
    ],
)
def test_the_nearest_name_is_named(name, known, hint):
    assert did_you_mean(name, known) == hint


def test_null_stands_for_an_object_without_keys_unless_one_is_needed():
    reader, nodes = reading("a: ~\n")
    assert reader.mapping(nodes["a"], "`a`", ("b",)) == {}
    assert reader.problems() == []
    assert reader.mapping(nodes["a"], "`a`", ("b",), needed=True) == {}
    assert [one.message for one in reader.problems()] == ["`a` must be an object (`key: value`)"]


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("no", "write `false`: in YAML 1.2 `no` is a text"),
        ("Off", "write `false`: in YAML 1.2 `off` is a text"),
        ("yes", "write `true`: in YAML 1.2 `yes` is a text"),
        ("'true'", "write `true`, without quotes"),
        ("${NO}", ""),
        ("5", ""),
        ("{}", ""),
    ],
)
def test_what_is_neither_true_nor_false_may_be_meant_so(written, hint):
    reader, nodes = reading(f"a: {written}\n", NO="no")
    assert reader.flag(nodes["a"], "`a`", True) is True
    (problem,) = reader.problems()
    assert (problem.message, problem.hint) == ("`a` must be true or false", hint)


def test_a_name_is_not_unknown_while_a_file_can_not_be_read():
    reader, nodes = reading("a: 1\nb: vars.x\n")
    reader.expressions = Expressions(variables={})
    reader.incomplete = True
    reader.unknown(nodes["a"], "there is no `a`")
    assert isinstance(nodes["b"], Scalar)
    reader.expression(nodes["b"], "when", reader.expressions.condition)
    assert reader.problems() == []
    reader.incomplete = False
    reader.unknown(nodes["a"], "there is no `a`")
    reader.expression(nodes["b"], "when", reader.expressions.condition)
    assert [one.message for one in reader.problems()] == [
        "there is no `a`",
        "`when` uses the unknown variable `vars.x`",
    ]


def test_many_problems_and_many_secrets_take_no_long_time():
    count = 5_000
    reader, nodes = reading("".join(f"key{number}: secret-{number:05}\n" for number in range(count)))
    for node in nodes.values():
        reader.secret(node)
        reader.problem(node, "secret-00007 is wrong")
    shown = reader.problems()
    assert (len(shown), shown[7].text) == (count, "key7: ************")
    assert {one.message for one in shown} == {"********** is wrong"}


@pytest.mark.parametrize("written", ["${KEY:-}", '"${KEY:-}"', '"${KEY:-}${OTHER}"'])
def test_a_text_whose_variable_is_empty_says_which(written):
    reader, nodes = reading(f"a: {written}\n", OTHER="")
    assert reader.text(nodes["a"], "`secret`") is None
    (problem,) = reader.problems()
    names = "KEY, OTHER" if "OTHER" in written else "KEY"
    assert (problem.message, problem.hint) == ("`secret` is empty", f"give {names} a value")
