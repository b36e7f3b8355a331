"""The JSON Schema of routes.yaml, with the options of the installed plugins: for editors, which complete by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from .config_enrichments import IDENTITY
from .config_webhooks import SCHEMES
from .events import EVENT_TYPES
from .plugins import Plugins

DIALECT = "http://json-schema.org/draft-07/schema#"
"""What editors know best (the YAML language server of VS Code, Neovim and others; JetBrains)."""

Schema = dict[str, Any]

VARIABLE: Schema = {"type": "string", "pattern": r"\$\{"}
"""A variable may stand for any plain value."""

TEXT: Schema = {"type": "string"}


def rules_schema(plugins: Plugins) -> Schema:
    """The schema. What `check` accepts is valid by it; it can't tell all that `check` does."""
    names = [cls for cls in plugins.enrichments if cls.name != IDENTITY]
    enrichments = {cls.name: _enrichment(cls.Options, cls.__doc__) for cls in names}
    enrichments[IDENTITY] = _flag("Always on; its database is configured by `state`.")
    return {
        "$schema": DIALECT,
        "title": "The rules of eventrouter (routes.yaml)",
        **_object(
            {
                "version": {"const": 1, "description": "The version of the file's format."},
                "include": _texts("Further files with sources, vars, destinations, routes and tests."),
                "sources": _named(_source(), "Who sends events, by name."),
                "collect": _collect(),
                "warehouse": _url("The warehouse; empty: an SQLite file in the data directory."),
                "state": _url("The database of the identity graph; empty: an SQLite file in the data directory."),
                "dedup": _object(
                    {
                        "window": _duration("How long repeated events are recognised. Default: 24h."),
                        "max_bytes": _size("How much memory that may take. Default: 256MB."),
                    }
                ),
                "enrichments": _object(enrichments, "What adds to events before they are routed."),
                "vars": {
                    "type": ["object", "null"],
                    "description": "Named values: `vars.name` in conditions and templates.",
                },
                "destinations": _named(_destination(plugins), "Where events may go, by name."),
                "routes": _list(_route(), "For each destination the first matching route wins."),
                "tests": _list(_test(), "What `eventrouter test` runs."),
            },
            required=("version", "sources"),
        ),
    }


def _source() -> Schema:
    keys = {**_texts("What the SDK calls write key; several while it is changed."), "examples": ["dev-website"]}
    webhook = _object(
        {
            "verify": {
                "description": "How it is known who sends.",
                "anyOf": [
                    {"const": "none"},
                    _object(
                        {
                            "scheme": {"anyOf": [{"enum": list(SCHEMES)}, VARIABLE]},
                            "secret": _texts("The secret shared with the sender."),
                            "secrets": _texts("Several of them, while it is changed."),
                            "header": _text("Where a token stands: the name of a header."),
                            "query": _text("Where a token stands: the name of a query parameter."),
                            "tolerance": _duration("How old a signature may be. Default: 300s."),
                        },
                        required=("scheme",),
                    ),
                ],
            },
            "when": _condition("Makes an event only when this holds of `body`, `headers` and `query`."),
            "event": {"type": "object", "description": "The event; its texts are templates."},
        },
        "POST /v1/webhook/SOURCE takes any JSON and makes an event of it.",
        required=("verify", "event"),
    )
    cookie = _object(
        {
            "name": _text("Default: er_anonymous_id."),
            "domain": _text("Such as .shop.example; default: the collector's host alone."),
            "max_age": _duration("Default: 365d."),
        }
    )
    return _object(
        {
            "write_key": keys,
            "write_keys": keys,
            "enabled": _flag("false: events are refused. Default: true."),
            "origins": _texts("Pages that may send, such as https://*.shop.example; default: any."),
            "rate_limit": _text("Events that are taken, such as 500/s; default: no limit."),
            "scrub": _object(
                {
                    "remove": _texts("Paths that are removed."),
                    "hash": _texts("Paths whose values are replaced by digests."),
                    "query": _texts("Query parameters that are removed from URLs."),
                    "salt": _text("The secret of the digests."),
                },
                "What is taken out of events before anything is stored.",
            ),
            "cookie": {"description": "A first-party cookie for the anonymous id.", "anyOf": [_flag(), cookie]},
            "webhook": webhook,
        }
    )


def _collect() -> Schema:
    return _object(
        {
            "path_prefix": _text("Every path also answers below it, such as /e."),
            "public_url": _text("What clients call the collector."),
            "trusted_proxies": _texts("Networks whose X-Forwarded-* headers are believed."),
            "spool": _object(
                {"max_bytes": _size("How much waits on disk while Redis is away. Default: 1GB; 0: none.")}
            ),
        },
        "How the collector is reached.",
    )


def _destination(plugins: Plugins) -> Schema:
    schema = _object(
        {
            "plugin": {
                "anyOf": [{"enum": sorted(plugins.destinations)}, VARIABLE],
                "description": "The kind of destination.",
            },
            "options": {"type": ["object", "null"]},
            "consent": _texts("Consent categories without which nothing leaves for it."),
            "batch": _object(
                {"size": _number("Events of one attempt, at most."), "wait": _duration("How long one waits for more.")}
            ),
            "retry": _object(
                {
                    "initial": _duration("The first pause. Default: 1s."),
                    "max_interval": _duration("The longest pause. Default: 5m."),
                    "max_age": _duration("After that long a delivery is a dead letter. Default: 72h."),
                    "max_attempts": _number("Of a delivery that fails while others succeed. Default: 10."),
                }
            ),
            "concurrency": _number("Attempts of one lane at once."),
            "rate_limit": {
                "description": "Messages, at most, such as 10/s.",
                "anyOf": [TEXT, _object({"count": _number(""), "per_seconds": _duration("")}, required=("count",))],
            },
            "timeout": _duration("How long an attempt may take."),
            "backlog": _number("How many deliveries may wait. Default: 200000."),
            "enabled": _flag("false: nothing is sent, what waits stays. Default: true."),
            "worker_group": _text("The workers that serve it alone: `eventrouter work --group NAME`."),
        },
        required=("plugin",),
    )
    schema["allOf"] = [
        {
            "if": {"properties": {"plugin": {"const": name}}, "required": ["plugin"]},
            "then": {"properties": {"options": _options(cls.Options, cls.__doc__)}},
        }
        for name, cls in sorted(plugins.destinations.items())
    ]
    return schema


def _route() -> Schema:
    return _object(
        {
            "name": _text("What reports call it."),
            "to": _texts("The destinations that get the event."),
            "from": _texts("Only events of these sources; default: all."),
            "when": {**_condition("Which events it is for."), "type": ["string", "boolean"]},
            "consent": _texts("Consent categories that it needs, beside the destination's."),
            "sample": {"type": ["string", "number"], "description": "A share of the order keys, such as 10%."},
            "skip": _text("Nothing is sent: the reason that is counted."),
            "set": {"type": ["object", "null"], "description": "Paths and the templates of their values."},
            "map": {"description": "The payload instead of the event; its texts are templates."},
            "rename": {
                "type": ["object", "null"],
                "additionalProperties": TEXT,
                "description": "Paths and their new paths.",
            },
            "hash": _object(
                {"salt": _text("The secret of the digests."), "fields": _texts("Paths.")},
                "Replaces values by digests.",
                required=("salt", "fields"),
            ),
            "keep": _texts("The only paths that are left."),
            "drop": _texts("Paths that are removed."),
        },
        required=("to",),
    )


def _test() -> Schema:
    event = {
        "type": "object",
        "properties": {"type": {"type": "string", "examples": list(EVENT_TYPES)}},
        "description": "An event, as a client sends it; for a webhook what is posted: body, headers and query.",
    }
    return _object(
        {
            "name": _text("What the output calls it."),
            "source": _text("Whose events they are; default: the first source."),
            "given": {"anyOf": [event, _list(event)]},
            "expect": {
                "type": ["object", "null"],
                "description": "By destination, or for the `warehouse`: a payload, or why there is none.",
            },
            "exact": _flag("Whether payloads have no more keys than expected. Default: false."),
        },
        required=("given", "expect"),
    )


def _enrichment(model: type[BaseModel], text: str | None) -> Schema:
    return {"description": _first_line(text), "anyOf": [_flag(), _options(model, text), {"type": "null"}]}


def _options(model: type[BaseModel], text: str | None) -> Schema:
    """A plugin's own schema, in which a variable may stand for every plain value."""
    schema = model.model_json_schema(ref_template="#/definitions/{model}")
    definitions = schema.pop("$defs", {})
    return {**_with_variables(_inlined(schema, definitions, 0)), "description": _first_line(text)}


def _inlined(schema: Any, definitions: Mapping[str, Any], depth: int) -> Any:
    """The schema without references, as part of a larger one. One that holds itself ends after a while."""
    if isinstance(schema, list):
        return [_inlined(part, definitions, depth) for part in schema]
    if not isinstance(schema, dict):
        return schema
    name = str(schema.get("$ref", "")).removeprefix("#/definitions/")
    if name in definitions:
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return {} if depth > 5 else _inlined({**definitions[name], **rest}, definitions, depth + 1)
    return {key: _inlined(value, definitions, depth) for key, value in schema.items()}


def _with_variables(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_with_variables(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _with_variables(value) for key, value in schema.items() if key not in ("title", "writeOnly")}
    kinds = made.get("type")
    plain = kinds in ("integer", "number", "boolean") or "enum" in made or "const" in made
    return {"anyOf": [made, VARIABLE], **_described(made.pop("description", ""))} if plain else made


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n\n")[0].replace("\n", " ")


# The shapes that values have


def _described(text: str) -> Schema:
    return {"description": text} if text else {}


def _object(properties: Mapping[str, Schema], text: str = "", *, required: tuple[str, ...] = ()) -> Schema:
    # Null is what an editor makes of a key without a value: `check` takes it for what isn't there.
    made: Schema = {
        "type": ["object", "null"],
        **_described(text),
        "properties": dict(properties),
        "additionalProperties": False,
    }
    return {**made, "required": list(required)} if required else made


def _named(schema: Schema, text: str) -> Schema:
    return {"type": ["object", "null"], "description": text, "additionalProperties": schema}


def _list(schema: Schema, text: str = "") -> Schema:
    return {"type": ["array", "null"], **_described(text), "items": schema}


def _text(text: str) -> Schema:
    return {**TEXT, **_described(text)}


def _texts(text: str) -> Schema:
    return {**_described(text), "anyOf": [TEXT, {"type": ["array", "null"], "items": TEXT}]}


def _condition(text: str) -> Schema:
    return {**_text(text), "examples": ['type == "track" and properties.total > 10']}


def _flag(text: str = "") -> Schema:
    return {**_described(text), "anyOf": [{"type": "boolean"}, VARIABLE]}


def _number(text: str) -> Schema:
    return {**_described(text), "anyOf": [{"type": "integer", "minimum": 0}, VARIABLE]}


def _duration(text: str) -> Schema:
    return {**_described(text), "type": ["string", "number"], "examples": ["250ms", "1s", "5m", "72h"]}


def _size(text: str) -> Schema:
    return {**_described(text), "type": ["string", "number"], "examples": ["64KB", "256MB", "1GB"]}


def _url(text: str) -> Schema:
    return _object(
        {"url": {"type": ["string", "null"], "examples": ["postgresql://user:password@host/database"]}}, text
    )
