import pytest

from eventrouter.config_model import CollectConfig, CookieConfig, ScrubConfig
from eventrouter.errors import ConfigError
from routes_kit import load

HEAD = "version: 1\nsources: { website: { write_key: a } }\n"


def problems(text, **environ):
    with pytest.raises(ConfigError) as caught:
        load(text, **environ)
    return caught.value.problems


def messages(text, **environ):
    return [(problem.line, problem.column, problem.message) for problem in problems(text, **environ)]


def sources(text, **environ):
    return load(f"version: 1\nsources: {text}\n", **environ).sources


def source_messages(text, **environ):
    return [message for _, _, message in messages(f"version: 1\nsources: {text}\n", **environ)]


def test_a_source_has_one_write_key_or_several():
    read = sources("{ a: { write_key: x }, B-2_c: { write_key: [y, z] }, d: { write_keys: [u], write_key: v } }")
    assert {name: source.write_keys for name, source in read.items()} == {
        "a": ("x",),
        "B-2_c": ("y", "z"),
        "d": ("v", "u"),
    }


def test_a_source_can_be_switched_off():
    read = sources("{ a: { write_key: x, enabled: false }, b: { write_key: y, enabled: '${ON}' } }", ON="True")
    assert [source.enabled for source in read.values()] == [False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{ a: {} }", "the source `a` has no write key"),
        ("{ a: }", "the source `a` has no write key"),
        ("{ 'a b': { write_key: x } }", "`a b` is not a name for a source"),
        (f"{{ {'a' * 65}: {{ write_key: x }} }}", f"`{'a' * 65}` is not a name for a source"),
        ("{ a: { write_key: 'x:y' } }", "the write key of `a` is not valid"),
        ("{ a: { write_key: 'x y' } }", "the write key of `a` is not valid"),
        ("{ a: { write_key: 5 } }", "`write_key` must be a text"),
        ("{ a: { write_key: '' } }", "`write_key` must be a text"),
        ("{ a: { write_key: x }, b: { write_key: x } }", "a write key of `b` is used by the source `a`, too"),
        ("{ a: { write_key: [x, x] } }", "a write key of `a` is used twice"),
        ("{ a: { write_key: x, enabled: maybe } }", "`enabled` must be true or false"),
        ("{ a: { writekey: x, write_key: y } }", "the source `a` has no key `writekey`"),
    ],
)
def test_what_is_wrong_with_a_source_is_told(text, message):
    assert source_messages(text) == [message]


def one(text, **environ):
    return sources(f"{{ a: {{ write_key: x, {text} }} }}", **environ)["a"]


def told(text, **environ):
    return source_messages(f"{{ a: {{ write_key: x, {text} }} }}", **environ)


def test_what_is_not_written_is_off():
    source = one("")
    assert (source.origins, source.rate_limit, source.scrub, source.cookie, source.webhook) == (None,) * 5


def test_origins_are_those_of_browsers():
    text = "['https://shop.example', 'HTTPS://*.Shop.example:8443', 'capacitor://localhost', 'http://[::1]:80', 'null']"
    assert one(f"origins: {text}").origins == (
        "https://shop.example",
        "https://*.shop.example:8443",
        "capacitor://localhost",
        "http://[::1]:80",
        "null",
    )
    assert one("origins: 'https://shop.example'").origins == ("https://shop.example",)


@pytest.mark.parametrize(
    "text",
    ["shop.example", "https://shop.example/", "https://shop.example/a", "https://*", "https://a.*.example", "*"],
)
def test_what_no_browser_sends_is_not_an_origin(text):
    assert told(f"origins: '{text}'") == ["`origins` holds something that is not an origin"]


def test_an_empty_list_of_origins_is_told():
    assert told("origins: []") == ["`origins` must not be an empty list"]


@pytest.mark.parametrize(("text", "limit"), [("500/s", 500.0), ("90/m", 1.5), ("100/10s", 10.0), ("1/d", 1 / 86_400)])
def test_a_rate_limit_is_events_per_second(text, limit):
    assert one(f"rate_limit: {text}").rate_limit == limit


def test_a_rate_limit_has_a_unit():
    assert told("rate_limit: 500") == ["`rate_limit` is not valid"]


def test_scrub_names_fields_and_query_parameters():
    text = "scrub: { remove: [context.ip, 'traits.*'], hash: userId, query: [token, email], salt: '${SALT}' }"
    expected = ScrubConfig(("context.ip", "traits.*"), ("userId",), ("token", "email"), "salt-of-16-bytes")
    assert one(text, SALT="salt-of-16-bytes").scrub == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "`scrub` does nothing"),
        ("{ salt: abcdefghijklmnop }", "`scrub` does nothing"),
        ("{ hash: [traits.email] }", "`scrub` has no `salt`"),
        ("{ hash: [traits.email], salt: '' }", "`scrub.salt` must be a text"),
        ("{ hash: [traits.email], salt: abcdefghijklmno }", "`scrub.salt` is too short"),
        ("{ remove: [userId] }", "`scrub.remove`: `userId` is what the event is kept by: hash it instead"),
        (
            "{ remove: [messageId] }",
            "`scrub.remove`: `messageId` is what the event is understood by: it has to stay as it is",
        ),
        ("{ remove: [traits] }", "`scrub.remove`: `traits` is a whole: write `traits.*` for all that is in it"),
        ("{ remove: ['a..b'] }", "`scrub.remove`: `a..b` is not a path at character 2"),
        ("{ remove: [context.ip, context.ip] }", "`scrub.remove`: `context.ip` stands under `remove` already"),
        ("{ remove: a, hash: a, salt: abcdefghijklmnop }", "`scrub.hash`: `a` stands under `remove` already"),
        ("{ removes: a, query: b }", "`scrub` has no key `removes`"),
        ("{ query: [] }", "`scrub.query` must not be an empty list"),
        ("yes", "`scrub` must be an object (`key: value`)"),
        ("~", "`scrub` must be an object (`key: value`)"),
    ],
)
def test_what_is_wrong_with_scrub_is_told(text, message):
    assert told(f"scrub: {text}") == [message]


def test_the_salt_is_never_shown():
    (problem,) = problems("version: 1\nsources: { a: { write_key: x, scrub: { salt: pepperpepperpepper } } }\n")
    assert "pepper" not in str(problem) + problem.text


def test_a_cookie_is_switched_on_or_described():
    assert one("cookie: true").cookie == CookieConfig()
    assert one("cookie: false").cookie is None
    text = "cookie: { name: visitor, domain: .Shop.example, max_age: 30d }"
    assert one(text).cookie == CookieConfig("visitor", ".shop.example", 30 * 86_400.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("maybe", "`cookie` must be true or false"),
        ("{ name: 'a b' }", "`cookie.name` is not a name for a cookie"),
        ("{ domain: 'https://x' }", "`cookie.domain` is not a domain"),
        ("{ max_age: 401d }", "`cookie.max_age` is too long"),
        ("{ max_age: 0 }", "`cookie.max_age` is too small"),
        ("{ path: / }", "`cookie` has no key `path`"),
    ],
)
def test_what_is_wrong_with_a_cookie_is_told(text, message):
    assert told(f"cookie: {text}") == [message]


def test_collect_is_read():
    text = (
        "collect: { path_prefix: /e/, public_url: 'https://events.shop.example/x/',"
        " trusted_proxies: [127.0.0.1, 10.1.2.3/8, '::1'], spool: { max_bytes: 2MB } }"
    )
    assert load(HEAD + text).collect == CollectConfig(
        "/e", "https://events.shop.example/x", ("127.0.0.1/32", "10.0.0.0/8", "::1/128"), 2 * 1024**2
    )


def test_collect_is_optional_and_a_spool_can_be_switched_off():
    assert load(HEAD).collect == CollectConfig("", "", (), 1024**3)
    assert load(HEAD + "collect: { path_prefix: '${NONE:-}', public_url: '' }").collect == CollectConfig()
    assert load(HEAD + "collect: { spool: { max_bytes: 0 } }").collect.spool_max_bytes == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{ path_prefix: e }", "`collect.path_prefix` is not a path"),
        ("{ path_prefix: '/a b' }", "`collect.path_prefix` is not a path"),
        ("{ path_prefix: //a }", "`collect.path_prefix` is not a path"),
        ("{ path_prefix: /v1/e }", "`collect.path_prefix` begins like the collector's own paths"),
        ("{ public_url: events.shop.example }", "`collect.public_url` is not the URL of a server"),
        ("{ public_url: 'https://a:b@c' }", "`collect.public_url` is not the URL of a server"),
        ("{ public_url: 'https://c:99999' }", "`collect.public_url` is not the URL of a server"),
        ("{ public_url: 'https://c/?a=b' }", "`collect.public_url` is not the URL of a server"),
        ("{ trusted_proxies: [localhost] }", "`collect.trusted_proxies` holds something that is no network"),
        ("{ spool: { max_bytes: 1KB } }", "`collect.spool.max_bytes` is too small"),
        ("{ spool: { size: 1 } }", "`collect.spool` has no key `size`"),
        ("{ prefix: /e }", "`collect` has no key `prefix`"),
        ("[]", "`collect` must be an object (`key: value`)"),
    ],
)
def test_what_is_wrong_with_collect_is_told(text, message):
    assert [each[2] for each in messages(HEAD + f"collect: {text}")] == [message]


def test_all_that_is_wrong_is_told_at_its_place():
    text = "version: 1\nsources:\n  a:\n    write_key: x\n    origins: [shop]\n    rate_limit: fast\n"
    assert messages(text + "collect: { path_prefix: e }\n") == [
        (5, 15, "`origins` holds something that is not an origin"),
        (6, 17, "`rate_limit` is not valid"),
        (7, 25, "`collect.path_prefix` is not a path"),
    ]
