import pytest

from eventrouter.errors import ConfigError
from eventrouter.events import StoredEvent
from eventrouter.route import Router
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


VARS = HEAD + "destinations: { crm: { plugin: acme, options: { api_key: abcd } } }\n"


def test_variables_are_values_for_conditions_and_templates():
    config = load(
        VARS + 'vars: { limit: 10, big: "{{ properties.total > vars.limit }}" }\n'
        'routes: [{ to: crm, when: vars.big, map: { limit: "{{ vars.limit }}" } }]\n'
    )
    assert config.vars == {"limit": 10, "big": "{{ properties.total > vars.limit }}"}
    routed = Router(config).route([StoredEvent("website", {"type": "track", "properties": {"total": 11}})])
    assert [one.payload for one in routed.deliveries] == [{"limit": 10}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vars: [x]\n", (4, 7, "`vars` must be an object (`key: value`)")),
        ("vars: { 1a: x }\n", (4, 9, "`1a` is not a name for a variable")),
        ('vars: { a: "{{ propertis.total }}" }\n', (4, 16, "`vars` uses the unknown name `propertis`")),
        ('vars: { a: { b: ["{{ vars.c }}"] } }\n', (4, 22, "`vars` uses the unknown variable `vars.c`")),
        ("routes: [{ to: crm, when: vars.big }]\n", (4, 27, "`when` uses the unknown variable `vars.big`")),
    ],
)
def test_what_is_wrong_with_variables_is_told_at_its_place(text, expected):
    found = [one for one in messages(VARS + text) if "no route leads" not in one[2]]
    assert found == [expected]


def test_a_key_of_a_variable_that_looks_like_a_template_is_told():
    assert messages(HEAD + "vars: { a: { '{{ type }}': 1 } }\n") == [(3, 14, "`vars` has a template in a key")]
