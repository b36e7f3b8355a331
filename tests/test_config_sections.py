import pytest

from eventrouter.errors import ConfigError
from routes_kit import load

HEAD = "version: 1\nsources: { website: { write_key: a } }\n"


def messages(text, **environ):
    with pytest.raises(ConfigError) as caught:
        load(text, **environ)
    return [(problem.line, problem.column, problem.message) for problem in caught.value.problems]


@pytest.mark.parametrize("what", ["warehouse", "state"])
def test_databases_are_urls(what):
    config = load(HEAD + f"{what}: {{ url: 'postgresql+psycopg://a:b@c/d' }}")
    assert getattr(config, what).url == "postgresql+psycopg://a:b@c/d"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("warehouse: { url: /var/lib/x.sqlite3 }", "`warehouse.url` is not a URL"),
        ("warehouse: { url: 'oracle://x' }", "no plugin serves the scheme of `warehouse.url`"),
        ("state: { url: x }", "`state.url` is not a URL"),
        ("state: { uri: x }", "`state` has no key `uri`"),
        ("warehouse: sqlite", "`warehouse` must be an object (`key: value`)"),
    ],
)
def test_what_is_wrong_with_a_database_is_told(text, message):
    assert [each[2] for each in messages(HEAD + text)] == [message]


def test_dedup_is_read():
    dedup = load(HEAD + "dedup: { window: 1h, max_bytes: 1GB }").dedup
    assert (dedup.window, dedup.max_bytes) == (3600.0, 1024**3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{ window: 0 }", "`dedup.window` is too small"),
        ("{ window: [1] }", "`dedup.window` is not valid"),
        ("{ max_bytes: 1KB }", "`dedup.max_bytes` is too small"),
        ("{ max_bytes: true }", "`dedup.max_bytes` is not valid"),
    ],
)
def test_what_is_wrong_with_dedup_is_told(text, message):
    assert messages(HEAD + f"dedup: {text}") == [(3, text.index(":") + 10, message)]


DESTINATION = HEAD + "destinations: { crm: { plugin: acme, options: { api_key: abcd } } }\nroutes: [{ to: crm }]\n"


def test_tests_are_kept():
    tests = load(
        DESTINATION + "tests:\n  - { name: one, given: { type: page }, expect: { crm: { a: 1 } } }\n"
        "  - { given: [{ type: page }, { type: track }], expect: {} }\n"
    ).tests
    assert [(test.name, test.given, test.expect, test.line) for test in tests] == [
        ("one", ({"type": "page"},), {"crm": {"a": 1}}, 6),
        ("line 7", ({"type": "page"}, {"type": "track"}), {}, 7),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tests: {}", ["`tests` must be a list"]),
        ("tests: [x]", ["a test must be an object (`key: value`)"]),
        ("tests: [{ given: {} }]", ["the test has no `expect`"]),
        ("tests: [{ expect: {} }]", ["the test has no `given`"]),
        ("tests: [{ given: x, expect: {} }]", ["`given` must be an event (an object), or a list of events"]),
        ("tests: [{ given: {}, expect: { crn: {} } }]", ["there is no destination `crn`"]),
        ("tests: [{ given: {}, expect: {}, extra: 1 }]", ["a test has no key `extra`"]),
    ],
)
def test_the_shape_of_tests_is_checked(text, expected):
    assert [each[2] for each in messages(DESTINATION + text)] == expected
