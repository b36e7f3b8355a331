import pytest

from eventrouter.config import loads
from eventrouter.config_destinations import small_parts
from eventrouter.destination import Destination, RateLimit
from eventrouter.errors import ConfigError
from eventrouter.hookspecs import hookimpl
from eventrouter.plugins import Plugins
from routes_kit import PLUGINS, Acme, load

HEAD = "version: 1\nsources: { website: { write_key: a } }\nroutes: [{ to: crm }]\n"


def destination(rest="", options="{ api_key: abcd }", plugin="acme", **environ):
    comma = ", " if rest else ""
    text = f"{HEAD}destinations:\n  crm: {{ plugin: {plugin}, options: {options}{comma}{rest} }}\n"
    return load(text, **environ).destinations["crm"]


def problems(rest="", options="{ api_key: abcd }", plugin="acme", **environ):
    with pytest.raises(ConfigError) as caught:
        destination(rest, options, plugin, **environ)
    return [(problem.message, problem.hint) for problem in caught.value.problems]


def test_a_destination_has_its_plugins_defaults():
    crm = destination()
    assert (crm.name, crm.plugin, crm.cls) == ("crm", "acme", Acme)
    assert (crm.batch_size, crm.batch_wait, crm.concurrency, crm.calls, crm.timeout) == (100, 0.0, 8, None, 30.0)
    assert (crm.rate_limit, crm.backlog, crm.enabled, crm.consent) == (RateLimit(10, 1), 200_000, True, ())
    assert (crm.retry.initial, crm.retry.max_interval, crm.retry.max_age, crm.retry.max_attempts) == (
        1,
        300,
        259_200,
        10,
    )


def test_a_plugins_default_batch_is_taken_until_the_file_says_otherwise():
    class Small(Acme):
        name = "small"
        default_batch_size = 1

    class Plugin:
        @hookimpl
        def register_destinations(self) -> list[type[Destination]]:
            return [Small]

    def size(batch: str) -> int:
        text = f"{HEAD}destinations: {{ crm: {{ plugin: small, options: {{ api_key: abcd }}{batch} }} }}"
        return loads(text, Plugins(Plugin()), {}).destinations["crm"].batch_size

    assert (size(""), size(", batch: { size: 50 }")) == (1, 50)


def test_every_setting_can_be_given():
    crm = destination(
        "consent: [a, b], batch: { size: 5, wait: 250ms }, concurrency: 2, timeout: 5s, backlog: 10, enabled: false, "
        "rate_limit: 100/10s, retry: { initial: 2s, max_interval: 1m, max_age: 1d, max_attempts: 3 }"
    )
    assert (crm.batch_size, crm.batch_wait, crm.concurrency, crm.calls, crm.timeout) == (5, 0.25, 2, 2, 5.0)
    assert (crm.rate_limit, crm.backlog, crm.enabled, crm.consent) == (RateLimit(100, 10), 10, False, ("a", "b"))
    assert (crm.retry.initial, crm.retry.max_interval, crm.retry.max_age, crm.retry.max_attempts) == (2, 60, 86_400, 3)


def test_a_rate_limit_can_be_an_object():
    assert destination("rate_limit: { count: 5, per_seconds: 2 }").rate_limit == RateLimit(5, 2)


def test_settings_can_come_from_variables():
    crm = destination("concurrency: '${N}', enabled: '${ON}', timeout: '${T}'", N="3", ON="false", T="2m")
    assert (crm.concurrency, crm.enabled, crm.timeout) == (3, False, 120.0)


def test_options_are_the_plugins_model_and_texts_of_variables_become_what_it_wants():
    crm = destination(options='{ api_key: "${KEY}", retries: "${N}", strict: "${ON}" }', KEY="12345", N="7", ON="yes")
    assert (crm.options.api_key.get_secret_value(), crm.options.retries, crm.options.strict) == ("12345", 7, True)


@pytest.mark.parametrize(
    ("rest", "message", "hint"),
    [
        ("batch: { size: 101 }", "`batch.size` must be a whole number from 1 to 100", "the plugin takes at most 100"),
        ("batch: { size: 0 }", "`batch.size` must be a whole number from 1 to 100", "the plugin takes at most 100"),
        ("batch: { sise: 1 }", "`batch` has no key `sise`", "did you mean `size`?"),
        ("concurrency: many", "`concurrency` must be a whole number from 1 to 1,000", ""),
        ("consent: [1]", "`consent` must be a text", "put quotes around it"),
        ("consent: []", "`consent` must not be an empty list", ""),
        ("rate_limit: 10", "`rate_limit` is not valid", "write a rate such as 10/s, 600/m or 100/10s"),
        ("rate_limit: {}", "`rate_limit` has no `count`", "write `10/s`, or { count: 10, per_seconds: 1 }"),
        ("timeout: 0", "`timeout` is too small", "at least 0.1"),
        (
            "timeout: 10m",
            "`timeout` is not valid",
            "at most 120s: a turn of a lane has to end, and an attempt may need several calls",
        ),
        (
            "timeout: long",
            "`timeout` is not valid",
            "write a duration such as 250ms, 1s, 5m, 72h; a plain number means seconds",
        ),
        ("backlog: 0", "`backlog` must be a whole number from 1 to 1,000,000,000", ""),
        ("enabled: 1", "`enabled` must be true or false", ""),
        ("retry: { initial: 1h }", "`initial` is longer than `max_interval`", ""),
        ("plugins: x", "the destination `crm` has no key `plugins`", "did you mean `plugin`?"),
    ],
)
def test_what_is_wrong_with_a_setting_is_told(rest, message, hint):
    assert problems(rest) == [(message, hint)]


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ("{}", "the destination `crm` needs the option `api_key`", "Acme project key."),
        ("", "the destination `crm` needs the option `api_key`", "Acme project key."),
        (
            "{ api_key: 12345 }",
            "the option `api_key` is not valid: input should be a valid string",
            "put quotes around it",
        ),
        ("{ api_key: abcd, region: cn }", "the option `region` is not valid: cn is not a region", ""),
        ("{ api_key: abcd, regoin: eu }", "the plugin `acme` has no option `regoin`", "did you mean `region`?"),
        (
            "{ api_key: abcd, nested: { depth: deep } }",
            "the option `nested.depth` is not valid: input should be a valid integer, "
            "unable to parse string as an integer",
            "",
        ),
        ("[a]", "`options` must be an object (`key: value`)", ""),
    ],
)
def test_the_plugins_own_message_stands_at_its_option(options, message, hint):
    assert problems(options=options) == [(message, hint)]


def test_the_place_of_an_option_is_its_own():
    text = (
        HEAD
        + "destinations:\n  crm:\n    plugin: acme\n    options:\n"
        + "      api_key: abcd\n      nested:\n        depth: x\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert [(problem.line, problem.column) for problem in caught.value.problems] == [(10, 16)]


def test_a_missing_variable_is_told_once():
    assert [message for message, _ in problems(options='{ api_key: "${GONE}", region: "${AWAY}" }')] == [
        "the variable GONE is not set",
        "the variable AWAY is not set",
    ]


def test_an_unknown_plugin_gets_the_nearest_name():
    assert problems(plugin="acmee") == [("no installed plugin is called `acmee`", "did you mean `acme`?")]


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("warehouse", "`warehouse` is a reserved name", "the warehouse is always on and gets every event"),
        ("log", "`log` is a reserved name", "choose another name"),
        ("Crm", "`Crm` is not a name for a destination", "1 to 64 small letters, digits, _ and -"),
        ("a b", "`a b` is not a name for a destination", "1 to 64 small letters, digits, _ and -"),
    ],
)
def test_names_that_cannot_be_are_told(name, message, hint):
    options = "{ plugin: acme, options: { api_key: abcd } }"
    text = f"version: 1\nsources: {{ w: {{ write_key: a }} }}\ndestinations: {{ {name}: {options} }}"
    with pytest.raises(ConfigError) as caught:
        load(text)
    errors = [problem for problem in caught.value.problems if problem.severity == "error"]
    assert [(problem.message, problem.hint) for problem in errors] == [(message, hint)]


def test_a_destination_without_a_plugin_is_told_what_there_is():
    with pytest.raises(ConfigError, match="has no plugin") as caught:
        load(HEAD + "destinations: { crm: {} }")
    assert caught.value.problems[0].hint == f"add `plugin: …`; installed are {', '.join(PLUGINS.destinations)}"


def test_a_plugin_that_fails_on_its_options_is_named():
    class Bad(Acme):
        name = "bad"

        class Options(Destination.Options):
            def model_post_init(self, context: object) -> None:
                raise RuntimeError("boom")

    class Plugin:
        @hookimpl
        def register_destinations(self) -> list[type[Destination]]:
            return [Bad]

    with pytest.raises(ConfigError, match="the plugin `bad` failed on its options with RuntimeError"):
        loads(HEAD + "destinations: { crm: { plugin: bad } }", Plugins(Plugin()), {})


@pytest.mark.parametrize(("written", "group"), [("slow", "slow"), ("default", ""), ('"a-1"', "a-1")])
def test_a_destination_may_have_workers_of_its_own(written, group):
    assert (destination().worker_group, destination(f"worker_group: {written}").worker_group) == ("", group)


@pytest.mark.parametrize("written", ["Slow", '"a b"', "a:b", "2nd"])
def test_what_is_no_name_for_a_group_is_told(written):
    hint = "1 to 32 small letters, digits, _ and -, with a letter first"
    assert problems(f"worker_group: {written}") == [("`worker_group` is not a name for a group of workers", hint)]


def test_a_group_must_be_a_text():
    assert [message for message, _ in problems("worker_group: 7")] == ["`worker_group` must be a text"]


def test_a_part_of_the_backlog_that_one_order_key_fills_soon_is_worth_a_warning():
    config = load(f"{HEAD}destinations:\n  crm: {{ plugin: acme, options: {{ api_key: abcd }}, backlog: 1000 }}\n")
    [warning] = small_parts(config, 64)
    assert "warning: `backlog: 1000` of the destination `crm` is 15 in each of 64 shards\n" in str(warning)
    assert [] == small_parts(config, 10) == small_parts(config, 1)
