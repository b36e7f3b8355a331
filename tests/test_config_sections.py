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
