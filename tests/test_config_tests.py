import pytest

from eventrouter.config_model import PostConfig
from eventrouter.config_tests import companion, load_companion
from eventrouter.errors import ConfigError
from routes_kit import HEAD, PLUGINS, load

RULES = HEAD + "  - { to: crm }\n  - { to: alerts }\ntests:\n"


def messages(text):
    with pytest.raises(ConfigError) as caught:
        load(text)
    return [problem.message for problem in caught.value.problems]


def test_a_test_has_a_name_events_and_what_is_expected_by_destination():
    one, two = load(
        RULES
        + """\
  - { name: one, source: app, given: { type: page }, expect: { crm: { a: 1 } }, exact: true }
  - { given: [{ type: page }, { type: track }], expect: { alerts: consent } }
"""
    ).tests
    assert (one.name, one.source, one.given, one.expect, one.exact) == (
        "one",
        "app",
        ({"type": "page"},),
        {"crm": {"a": 1}},
        True,
    )
    assert (two.name, two.source, two.exact) == (f"line {one.line + 1}", "website", False)
    assert two.given == ({"type": "page"}, {"type": "track"})


@pytest.mark.parametrize("nothing", ["tests:", "tests: []"])
def test_there_may_be_none(nothing):
    assert load(RULES.replace("tests:", nothing)).tests == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tests: {}", ["`tests` must be a list"]),
        ("tests: [x]", ["a test must be an object (`key: value`)"]),
        ("tests: [~]", ["a test must be an object (`key: value`)"]),
        ("tests: [{ given: ~, expect: {} }]", ["`given` must be an event (an object), or a list of events"]),
        ("tests: [{ given: {} }]", ["the test has no `expect`"]),
        ("tests: [{ expect: {} }]", ["the test has no `given`"]),
        ("tests: [{ given: [], expect: {} }]", ["`given` must not be an empty list"]),
        ("tests: [{ given: x, expect: {} }]", ["`given` must be an event (an object), or a list of events"]),
        ("tests: [{ given: {}, expect: { crn: {} } }]", ["there is no destination `crn`"]),
        ("tests: [{ given: {}, expect: {}, source: web }]", ["there is no source `web`"]),
        ("tests: [{ given: {}, expect: {}, exact: maybe }]", ["`exact` must be true or false"]),
        ("tests: [{ given: {}, expect: {}, extra: 1 }]", ["a test has no key `extra`"]),
        ("tests: [{ given: { body: {} }, expect: {} }]", ["the source `website` has no `webhook` that takes a body"]),
    ],
)
def test_the_shape_of_tests_is_checked(text, expected):
    assert messages(RULES.replace("tests:\n", text)) == expected


HOOK = RULES.replace(
    "destinations:", "  hook: { webhook: { verify: none, event: { type: page, userId: u } } }\ndestinations:", 1
)


def test_what_is_posted_to_a_webhook_may_be_given():
    given = "{ body: [1], headers: { X-N: 1 }, query: { Q: a } }"
    [one] = load(f"{HOOK}  - {{ source: hook, given: {given}, expect: {{ warehouse: {{ type: page }} }} }}\n").tests
    assert one.given == (PostConfig([1], {"x-n": "1"}, {"Q": "a"}),)
    assert one.expect == {"warehouse": {"type": "page"}}


def test_an_event_of_such_a_source_may_be_given_too():
    [one] = load(HOOK + "  - { source: hook, given: { type: track, event: E, body: x }, expect: {} }\n").tests
    assert one.given == ({"type": "track", "event": "E", "body": "x"},)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("{ query: {} }", ["what is posted has no `body`"]),
        ("{ body: 1, heders: {} }", ["what is posted has no key `heders`"]),
        ("{ body: 1, headers: [x] }", ["`headers` must be an object (`key: value`)"]),
        (
            "{ body: 1, headers: { a: ~ }, query: { b: [] } }",
            ["each of `headers` must be a text", "each of `query` must be a text"],
        ),
    ],
)
def test_the_shape_of_what_is_posted_is_checked(given, expected):
    assert messages(f"{HOOK}  - {{ source: hook, given: {given}, expect: {{}} }}\n") == expected


def test_whose_webhook_it_may_be_is_told():
    with pytest.raises(ConfigError, match="hint: say whose it is: `source: hook`"):
        load(HOOK + "  - { given: { body: 1 }, expect: {} }\n")


@pytest.fixture
def beside(tmp_path):
    """Writes routes.yaml and the tests beside it, and reads the latter."""

    def read(text):
        path = tmp_path / "routes.yaml"
        path.write_text(RULES)
        if text is not None:
            companion(path).write_text(text)
        from eventrouter.config import load as load_file

        return load_companion(load_file(path, PLUGINS, {}), {"NAME": "from outside"})

    return read


def test_tests_may_stand_in_a_file_beside_the_rules(beside):
    [one] = beside('tests:\n  - { name: "${NAME}", given: { type: page }, expect: { crm: {} } }\n').tests
    assert (one.name, one.line, one.source) == ("from outside", 2, "website")
    assert one.path.endswith("routes_test.yaml")


def test_what_variables_brought_into_it_is_masked_too(beside):
    config = beside('tests:\n  - { name: "${NAME}", given: { type: page }, expect: { crm: {} } }\n')
    assert config.mask("it is from outside") == "it is **********"


def test_without_such_a_file_there_are_none(beside):
    assert beside(None).tests == []


def test_a_file_of_tests_that_the_rules_include_is_read_once(tmp_path):
    rules = tmp_path / "routes.yaml"
    rules.write_text('include: ["*_test.yaml"]\n' + RULES)
    companion(rules).write_text("tests: [{ given: { type: page }, expect: { crm: {} } }]\n")
    from eventrouter.config import load as load_file

    assert len(load_companion(load_file(rules, PLUGINS, {}), {}).tests) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the file is empty"),
        ("~\n", "the file must be an object"),
        ("routes: []\n", "the file has no key `routes`"),
        ("test: []\n", "did you mean `tests`?"),
        ("tests: [\n", "not valid YAML"),
        ("tests: [{ given: { type: page }, expect: { crn: {} } }]\n", "did you mean `crm`?"),
        ("tests: [{ name: '${NOBODY}', given: { type: page }, expect: {} }]\n", "NOBODY"),
    ],
)
def test_its_problems_are_told_with_their_places(beside, text, expected):
    with pytest.raises(ConfigError) as caught:
        beside(text)
    assert expected in str(caught.value)
    assert "routes_test.yaml" in str(caught.value)
