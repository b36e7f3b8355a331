"""Reads the `webhook:` of a source, and compiles its condition and templates for their faults."""

from __future__ import annotations

import re
from typing import Any

from . import quantities
from .config_model import VerifyConfig, WebhookSourceConfig
from .config_reader import Reader, did_you_mean
from .events import EVENT_TYPES
from .expressions import Expressions
from .signatures import is_standard_secret
from .yaml_file import MapNode, Node, Scalar, data

ROOTS = ("body", "headers", "query")
"""The names that conditions and templates of a webhook begin with."""

SCHEMES = ("stripe", "github", "standard-webhooks", "token", "none")
HEADERS = {"stripe": "Stripe-Signature", "github": "X-Hub-Signature-256", "standard-webhooks": "webhook-signature"}

NEEDS = {"track": ("event",), "group": ("groupId",), "alias": ("previousId", "userId")}
"""What an event of a type is refused without."""

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}\Z")


def read_webhook(reader: Reader, node: Node) -> WebhookSourceConfig | None:
    """`webhook:`; None when it can't be used as it stands."""
    settings = reader.mapping(node, "`webhook`", ("verify", "when", "event"), needed=True)
    if not isinstance(node, MapNode):
        return None
    verify = _verify(reader, settings["verify"]) if "verify" in settings else None
    if "verify" not in settings:
        hint = f"say how it is known who sends: {', '.join(SCHEMES)}"
        reader.problem(node, "`webhook` has no `verify`", hint)
    expressions = Expressions(reader.plugins.template_filters, ROOTS, reader.vars)
    when = _when(reader, expressions, settings["when"]) if "when" in settings else None
    event = _event(reader, expressions, node, settings.get("event"))
    return WebhookSourceConfig(verify, event, when) if verify and event else None


def _verify(reader: Reader, node: Node) -> VerifyConfig | None:
    if isinstance(node, Scalar) and node.value == "none":
        return VerifyConfig("none")
    keys = ("scheme", "secret", "secrets", "header", "query", "tolerance")
    settings = reader.mapping(node, "`verify`", keys, needed=True)
    nodes = [*reader.items(settings.get("secret")), *reader.items(settings.get("secrets"))]
    for item in nodes:
        reader.secret(item)
    if "scheme" not in settings:
        if isinstance(node, MapNode):
            reader.problem(node, "`verify` has no `scheme`", f"it is one of {', '.join(SCHEMES)}")
        return None
    scheme = reader.text(settings["scheme"], "`verify.scheme`")
    if scheme not in SCHEMES:
        if scheme is not None:
            hint = did_you_mean(scheme, SCHEMES, "there are")
            reader.problem(settings["scheme"], "there is no such scheme", hint)
        return None
    _check_unused(reader, scheme, settings)
    if not nodes and scheme != "none":
        reader.problem(node, "`verify` has no `secret`", 'add `secret: "${WEBHOOK_SECRET}"`')
    secrets = tuple(text for item in nodes if (text := reader.text(item, "`verify.secret`")) is not None)
    if scheme == "standard-webhooks":
        _check_standard(reader, nodes)
    tolerance = reader.quantity(settings.get("tolerance"), "`verify.tolerance`", 300.0, quantities.duration, 1)
    header, query = _place(reader, node, settings) if scheme == "token" else ("", "")
    if header:
        _check_tokens(reader, nodes)
    return VerifyConfig(scheme, secrets, header, query, tolerance)


def _check_unused(reader: Reader, scheme: str, settings: dict[str, Node]) -> None:
    known = {"scheme"} if scheme == "none" else {"scheme", "secret", "secrets"}
    if scheme == "stripe":
        known.add("tolerance")
    if scheme == "token":
        known |= {"header", "query"}
    for key, node in settings.items():
        if key not in known:
            hint = f"its signature stands in {HEADERS[scheme]}" if scheme in HEADERS and key != "tolerance" else ""
            reader.problem(node, f"`{key}` has no effect with the scheme `{scheme}`", hint or "leave it out")


def _check_standard(reader: Reader, nodes: list[Node]) -> None:
    for node in nodes:
        text = node.value if isinstance(node, Scalar) and not node.broken else None
        if isinstance(text, str) and text and not is_standard_secret(text):
            reader.problem(node, "this is no secret of Standard Webhooks", "it is `whsec_` and the key in base64")


def _check_tokens(reader: Reader, nodes: list[Node]) -> None:
    for node in nodes:
        text = node.value if isinstance(node, Scalar) and not node.broken else None
        if isinstance(text, str) and text and not (text.isascii() and text.isprintable() and text == text.strip()):
            hint = "headers hold ASCII, and no spaces at their ends: no request could have it"
            reader.problem(node, "this can't be a token in a header", hint)


def _place(reader: Reader, node: Node, settings: dict[str, Node]) -> tuple[str, str]:
    """Where a token stands: header and query parameter, of which one is empty."""
    if ("header" in settings) == ("query" in settings):
        hint = "add `header: X-Webhook-Token`, or `query: token` where the sender can't set headers"
        reader.problem(node, "`verify` needs `header` or `query`: where the token stands", hint)
    header = (reader.text(settings.get("header"), "`verify.header`") or "").lower()
    if header and not _HEADER.match(header):
        reader.problem(settings["header"], "`verify.header` is not the name of a header", "such as X-Webhook-Token")
    return header, reader.text(settings.get("query"), "`verify.query`") or ""


def _when(reader: Reader, expressions: Expressions, node: Node) -> str | None:
    if isinstance(node, Scalar) and node.broken:
        return None
    if not isinstance(node, Scalar) or not isinstance(node.value, (str, bool)) or node.text == "":
        hint = "put quotes around the whole, such as \"body.type == 'paid'\""
        reader.problem(node, "`when` must be an expression in a text", hint)
        return None
    reader.expression(node, "when", expressions.condition)
    return node.text


def _event(reader: Reader, expressions: Expressions, webhook: Node, node: Node | None) -> dict[str, Any] | None:
    if node is None:
        hint = 'add `event: { type: track, event: "…", userId: "{{ body.… }}" }`'
        reader.problem(webhook, "`webhook` has no `event`", hint)
        return None
    settings = reader.mapping(node, "`event`", needed=True)
    if not isinstance(node, MapNode):
        return None
    reader.templates(node, "event", expressions)
    _check_event(reader, node, settings)
    event: dict[str, Any] = data(node)
    return event


def _check_event(reader: Reader, node: MapNode, settings: dict[str, Node]) -> None:
    """Notes what makes each event of it a refused one."""
    type_node = settings.get("type")
    type_ = type_node.value if isinstance(type_node, Scalar) else None
    known = isinstance(type_, str) and ("{{" in type_ or type_ in EVENT_TYPES)
    broken = isinstance(type_node, Scalar) and type_node.broken
    if type_node is None:
        reader.problem(node, "the event has no `type`", f"it is one of {', '.join(EVENT_TYPES)}")
    elif not (known or broken):
        reader.problem(type_node, "the event's `type` is unknown", f"it is one of {', '.join(EVENT_TYPES)}")
    given = {name for name, value in settings.items() if not (isinstance(value, Scalar) and value.value is None)}
    for name in NEEDS.get(type_, ()) if isinstance(type_, str) else ():
        if name not in given:
            reader.problem(node, f"the event has no `{name}`, which a {type_} event needs")
    if not given & {"userId", "anonymousId"}:
        hint = "an event needs the id of a person: add `userId` or `anonymousId`"
        reader.problem(node, "the event has neither a `userId` nor an `anonymousId`", hint)
