import pytest

from eventrouter.config_model import VerifyConfig, WebhookSourceConfig
from eventrouter.errors import ConfigError
from routes_kit import load

HEAD = "version: 1\nsources:\n  stripe:\n    webhook:\n"
VERIFY = "      verify: none\n"
EVENT = "      event: { type: track, event: Paid, userId: '{{ body.id }}' }\n"


def webhook(text, **environ):
    return load(HEAD + text, **environ).sources["stripe"].webhook


def problems(text, **environ):
    with pytest.raises(ConfigError) as caught:
        load(HEAD + text, **environ)
    return caught.value.problems


def messages(text, **environ):
    return [problem.message for problem in problems(text, **environ)]


def test_a_webhook_is_read_and_needs_no_write_key():
    text = """\
      verify: { scheme: stripe, secret: "${SECRET}" }
      when: body.type == "checkout.session.completed"
      event: { type: track, event: Paid, userId: "{{ body.data.id }}", properties: { total: "{{ body.n / 9 }}" } }
"""
    source = load(HEAD + text, SECRET="whsec_x").sources["stripe"]
    assert source.write_keys == ()
    assert source.webhook == WebhookSourceConfig(
        VerifyConfig("stripe", ("whsec_x",)),
        {
            "type": "track",
            "event": "Paid",
            "userId": "{{ body.data.id }}",
            "properties": {"total": "{{ body.n / 9 }}"},
        },
        'body.type == "checkout.session.completed"',
    )


def test_a_webhook_may_have_a_write_key_too():
    text = "version: 1\nsources:\n  stripe:\n    write_key: k\n    webhook:\n" + VERIFY + EVENT
    assert load(text).sources["stripe"].write_keys == ("k",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", VerifyConfig("none")),
        ("{ scheme: none }", VerifyConfig("none")),
        ("{ scheme: github, secret: abcd }", VerifyConfig("github", ("abcd",))),
        ("{ scheme: github, secret: [abcd, efgh] }", VerifyConfig("github", ("abcd", "efgh"))),
        ("{ scheme: github, secrets: [abcd], secret: efgh }", VerifyConfig("github", ("efgh", "abcd"))),
        ("{ scheme: stripe, secret: abcd, tolerance: 10m }", VerifyConfig("stripe", ("abcd",), tolerance=600.0)),
        (
            "{ scheme: standard-webhooks, secret: whsec_c2VjcmV0 }",
            VerifyConfig("standard-webhooks", ("whsec_c2VjcmV0",)),
        ),
        ("{ scheme: token, secret: abcd, header: X-Token }", VerifyConfig("token", ("abcd",), header="x-token")),
        ("{ scheme: token, secret: tökén, query: Token }", VerifyConfig("token", ("tökén",), query="Token")),
        ("{ scheme: token, secret: abcd, query: Token }", VerifyConfig("token", ("abcd",), query="Token")),
    ],
)
def test_how_senders_are_known_is_read(text, expected):
    assert webhook(f"      verify: {text}\n" + EVENT).verify == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{ scheme: paypal, secret: abcd }", "there is no such scheme"),
        ("{ secret: abcd }", "`verify` has no `scheme`"),
        ("yes", "`verify` must be an object (`key: value`)"),
        ("{ scheme: github }", "`verify` has no `secret`"),
        ("{ scheme: github, secret: '' }", "`verify.secret` must be a text"),
        ("{ scheme: github, secret: abcd, tolerance: 5m }", "`tolerance` has no effect with the scheme `github`"),
        ("{ scheme: stripe, secret: abcd, header: X }", "`header` has no effect with the scheme `stripe`"),
        ("{ scheme: none, secret: abcd }", "`secret` has no effect with the scheme `none`"),
        ("{ scheme: stripe, secret: abcd, tolerance: 0 }", "`verify.tolerance` is too small"),
        ("{ scheme: standard-webhooks, secret: whsec_ä }", "this is no secret of Standard Webhooks"),
        ("{ scheme: token, secret: abcd }", "`verify` needs `header` or `query`: where the token stands"),
        (
            "{ scheme: token, secret: abcd, header: a, query: b }",
            "`verify` needs `header` or `query`: where the token stands",
        ),
        ("{ scheme: token, secret: abcd, header: 'a b' }", "`verify.header` is not the name of a header"),
        ("{ scheme: token, secret: tökén, header: X-Token }", "this can't be a token in a header"),
        ("{ scheme: token, secret: [abcd, 'abcd '], header: X-Token }", "this can't be a token in a header"),
        ("{ scheme: none, secrt: abcd }", "`verify` has no key `secrt`"),
        ("~", "`verify` must be an object (`key: value`)"),
    ],
)
def test_what_is_wrong_with_verify_is_told(text, message):
    assert messages(f"      verify: {text}\n" + EVENT) == [message]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{ event: A, userId: u }", "the event has no `type`"),
        ("{ type: order, userId: u }", "the event's `type` is unknown"),
        ("{ type: 5, userId: u }", "the event's `type` is unknown"),
        ("{ type: track, userId: u }", "the event has no `event`, which a track event needs"),
        ("{ type: group, userId: u }", "the event has no `groupId`, which a group event needs"),
        ("{ type: page }", "the event has neither a `userId` nor an `anonymousId`"),
        ("{ type: page, userId: '{{ body. }}' }", "`event` is not a valid expression"),
        ("{ type: page, userId: '{{ event }}' }", "`event` uses the unknown name `event`"),
        ("[]", "`event` must be an object (`key: value`)"),
        ("~", "`event` must be an object (`key: value`)"),
        ("{ type: track, userId: u, event: }", "the event has no `event`, which a track event needs"),
        ("{ type: page, userId: ~ }", "the event has neither a `userId` nor an `anonymousId`"),
    ],
)
def test_what_is_wrong_with_an_event_is_told(text, message):
    assert messages(VERIFY + f"      event: {text}\n") == [message]


def test_a_type_may_be_a_template_and_filters_of_plugins_work():
    event = "      event: { type: '{{ body.kind }}', userId: '{{ body.id | shout }}', anonymousId: '{{ query.a }}' }\n"
    assert webhook(VERIFY + event).event["type"] == "{{ body.kind }}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("body.type = 'a'", "`when` is not a valid expression"),
        ("type == 'a'", "`when` uses the unknown name `type`"),
        ("[]", "`when` must be an expression in a text"),
    ],
)
def test_what_is_wrong_with_when_is_told(text, message):
    assert messages(VERIFY + EVENT + f"      when: {text}\n") == [message]


def test_what_is_missing_is_told_at_its_place():
    assert messages(EVENT) == ["`webhook` has no `verify`"]
    assert messages(VERIFY) == ["`webhook` has no `event`"]
    found = problems("      event: { type: page }\n      verify: { scheme: stripe }\n      to: x\n")
    assert [(problem.line, problem.column, problem.message) for problem in found] == [
        (5, 14, "the event has neither a `userId` nor an `anonymousId`"),
        (6, 15, "`verify` has no `secret`"),
        (7, 7, "`webhook` has no key `to`"),
    ]
    for value in ("", "true"):
        with pytest.raises(ConfigError, match="`webhook` must be an object"):
            load(f"version: 1\nsources: {{ a: {{ webhook: {value} }} }}\n")


def test_a_secret_is_never_shown():
    found = problems("      verify: { scheme: github, secret: pepper, to: x }\n" + EVENT)
    assert "pepper" not in "".join(str(problem) + problem.text for problem in found)
    assert "pepper" not in repr(webhook("      verify: { scheme: github, secret: pepper }\n" + EVENT))


def test_a_variable_that_is_missing_is_told_once():
    assert messages('      verify: { scheme: github, secret: "${NO}" }\n' + EVENT) == ["the variable NO is not set"]


def test_variables_are_known_also_those_that_only_a_webhook_can_use():
    head = "vars: { paid: \"body.type\", cents: '{{ body.n * 100 }}' }\n" + HEAD
    text = VERIFY + EVENT.replace("body.id", "vars.cents") + "      when: body.type == vars.paid\n"
    assert load(head + text).sources["stripe"].webhook is not None


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("pad", "`event` uses the unknown variable `vars.pad`", "did you mean `vars.paid`?"),
        ("paid", "`event` uses the unknown name `properties`", "write `body.properties`; a text needs quotes"),
    ],
)
def test_what_variables_can_not_be_in_a_webhook_is_told_at_their_place(name, message, hint):
    head = "vars: { paid: '{{ properties.n }}' }\n" + HEAD
    with pytest.raises(ConfigError) as caught:
        load(head + VERIFY + EVENT.replace("body.id", f"vars.{name}"))
    (problem,) = caught.value.problems
    assert (problem.line, problem.column, problem.message, problem.hint) == (7, 54, message, hint)


def test_a_key_that_looks_like_a_template_is_told():
    text = VERIFY + EVENT.replace("userId:", "traits: { '{{ body.key }}': 1 }, userId:")
    assert messages(text) == ["`event` has a template in a key"]
