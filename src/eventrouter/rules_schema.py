"""The JSON Schema of routes.yaml, with the options of the installed plugins: for editors, which complete by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from .config_enrichments import IDENTITY
from .config_webhooks import SCHEMES
from .events import EVENT_TYPES
from .plugins import Plugins
from .schema_shapes import (
    TEXT,
    VARIABLE,
    Schema,
    condition,
    described,
    duration,
    flag,
    list_of,
    named,
    number,
    object_of,
    size,
    text,
    texts,
    url,
)

DIALECT = "http://json-schema.org/draft-07/schema#"
"""What editors know best (the YAML language server of VS Code, Neovim and others; JetBrains)."""


def rules_schema(plugins: Plugins) -> Schema:
    """The schema of routes.yaml. What `check` accepts is valid by it; it can't tell all that `check` does."""
    names = [cls for cls in plugins.enrichments if cls.name != IDENTITY]
    enrichments = {cls.name: _enrichment(cls.Options, cls.__doc__) for cls in names}
    enrichments[IDENTITY] = flag("Always on; its database is configured by `state`.")
    schema = _titled(
        "The rules of eventrouter (routes.yaml)",
        {
            "include": texts("Further files with sources, vars, destinations, routes and tests."),
            "collect": _collect(),
            "warehouse": url("The warehouse; empty: an SQLite file in the data directory."),
            "state": url("The database of the identity graph; empty: an SQLite file in the data directory."),
            "dedup": object_of(
                {
                    "window": duration("How long repeated events are recognised. Default: 24h."),
                    "max_bytes": size("How much memory that may take. Default: 256MB."),
                }
            ),
            "enrichments": object_of(enrichments, "What adds to events before they are routed."),
            **_parts(plugins),
        },
        required=("version",),
    )
    return {**schema, "anyOf": [{"required": ["sources"]}, {"required": ["include"]}]}


def included_schema(plugins: Plugins) -> Schema:
    """The schema of a file that routes.yaml includes."""
    return _titled("A file of rules that eventrouter's routes.yaml includes", _parts(plugins))


def tests_schema(plugins: Plugins) -> Schema:
    """The schema of the file of tests beside routes.yaml."""
    return _titled(
        "Tests of the rules of eventrouter (routes_test.yaml)", {"tests": _parts(plugins)["tests"]}, required=("tests",)
    )


SCHEMAS: dict[str, Callable[[Plugins], Schema]] = {
    "rules": rules_schema,
    "included": included_schema,
    "tests": tests_schema,
}
"""By the kind of file."""


def _titled(title: str, properties: Mapping[str, Schema], *, required: tuple[str, ...] = ()) -> Schema:
    return {"$schema": DIALECT, "title": title, **object_of(properties, required=required, needed=True)}


def _parts(plugins: Plugins) -> dict[str, Schema]:
    """What may stand in any file of rules."""
    return {
        "version": {"const": 1, "description": "The version of the file's format."},
        "sources": named(_source(), "Who sends events, by name."),
        "vars": {"type": ["object", "null"], "description": "Named values: `vars.name` in conditions and templates."},
        "destinations": named(_destination(plugins), "Where events may go, by name."),
        "routes": list_of(_route(), "For each destination the first matching route wins."),
        "tests": list_of(_test(), "What `eventrouter test` runs."),
    }


def _source() -> Schema:
    keys = {**texts("What the SDK calls write key; several while it is changed."), "examples": ["dev-website"]}
    webhook = object_of(
        {
            "verify": {
                "description": "How it is known who sends.",
                "anyOf": [
                    {"const": "none"},
                    object_of(
                        {
                            "scheme": {"anyOf": [{"enum": list(SCHEMES)}, VARIABLE]},
                            "secret": texts("The secret shared with the sender."),
                            "secrets": texts("Several of them, while it is changed."),
                            "header": text("Where a token stands: the name of a header."),
                            "query": text("Where a token stands: the name of a query parameter."),
                            "tolerance": duration("How old a signature may be. Default: 300s."),
                        },
                        required=("scheme",),
                        needed=True,
                    ),
                ],
            },
            "when": condition("Makes an event only when this holds of `body`, `headers` and `query`."),
            "event": {"type": "object", "description": "The event; its texts are templates."},
        },
        "POST /v1/webhook/SOURCE takes any JSON and makes an event of it.",
        required=("verify", "event"),
        needed=True,
    )
    cookie = object_of(
        {
            "name": text("Default: er_anonymous_id."),
            "domain": text("Such as .shop.example; default: the collector's host alone."),
            "max_age": duration("Default: 365d."),
        }
    )
    return object_of(
        {
            "write_key": keys,
            "write_keys": keys,
            "enabled": flag("false: events are refused. Default: true."),
            "origins": texts("Pages that may send, such as https://*.shop.example; default: any."),
            "rate_limit": text("Events that are taken, such as 500/s; default: no limit."),
            "scrub": object_of(
                {
                    "remove": texts("Paths that are removed."),
                    "hash": texts("Paths whose values are replaced by digests."),
                    "query": texts("Query parameters that are removed from URLs."),
                    "salt": text("The secret of the digests."),
                },
                "What is taken out of events before anything is stored.",
            ),
            "cookie": {"description": "A first-party cookie for the anonymous id.", "anyOf": [flag(), cookie]},
            "webhook": webhook,
        }
    )


def _collect() -> Schema:
    return object_of(
        {
            "path_prefix": text("Every path also answers below it, such as /e."),
            "public_url": text("What clients call the collector."),
            "trusted_proxies": texts("Networks whose X-Forwarded-* headers are believed."),
            "spool": object_of(
                {"max_bytes": size("How much waits on disk while Redis is away. Default: 1GB; 0: none.")}
            ),
        },
        "How the collector is reached.",
    )


def _destination(plugins: Plugins) -> Schema:
    schema = object_of(
        {
            "plugin": {
                "anyOf": [{"enum": sorted(plugins.destinations)}, VARIABLE],
                "description": "The kind of destination.",
            },
            "options": {"type": ["object", "null"]},
            "consent": texts("Consent categories without which nothing leaves for it."),
            "batch": object_of(
                {"size": number("Events of one attempt, at most."), "wait": duration("How long one waits for more.")}
            ),
            "retry": object_of(
                {
                    "initial": duration("The first pause. Default: 1s."),
                    "max_interval": duration("The longest pause. Default: 5m."),
                    "max_age": duration("After that long a delivery is a dead letter. Default: 72h."),
                    "max_attempts": number("Of a delivery that fails while others succeed. Default: 10."),
                }
            ),
            "concurrency": number("Calls at once, in all shards and workers together, at most."),
            "rate_limit": {
                "description": "Messages, at most, such as 10/s.",
                "anyOf": [TEXT, object_of({"count": number(""), "per_seconds": duration("")}, required=("count",))],
            },
            "timeout": duration("How long an attempt may take."),
            "backlog": number("How many deliveries may wait. Default: 200000."),
            "enabled": flag("false: nothing is sent, what waits stays. Default: true."),
            "worker_group": text("The workers that serve it alone: `eventrouter work --group NAME`."),
        },
        required=("plugin",),
        needed=True,
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
    return object_of(
        {
            "name": text("What reports call it."),
            "to": texts("The destinations that get the event."),
            "from": texts("Only events of these sources; default: all."),
            "when": condition("Which events it is for."),
            "consent": texts("Consent categories that it needs, beside the destination's."),
            "sample": {"type": ["string", "number"], "description": "A share of the order keys, such as 10%."},
            "skip": text("Nothing is sent: the reason that is counted."),
            "set": {"type": ["object", "null"], "description": "Paths and the templates of their values."},
            "map": {"description": "The payload instead of the event; its texts are templates."},
            "rename": {
                "type": ["object", "null"],
                "additionalProperties": TEXT,
                "description": "Paths and their new paths.",
            },
            "hash": object_of(
                {"salt": text("The secret of the digests."), "fields": texts("Paths.")},
                "Replaces values by digests.",
                required=("salt", "fields"),
                needed=True,
            ),
            "keep": texts("The only paths that are left."),
            "drop": texts("Paths that are removed."),
        },
        required=("to",),
        needed=True,
    )


def _test() -> Schema:
    event = {
        "type": "object",
        "properties": {"type": {"examples": list(EVENT_TYPES)}},
        "description": "An event, as a client sends it; for a webhook what is posted: body, headers and query.",
    }
    return object_of(
        {
            "name": text("What the output calls it."),
            "source": text("Whose events they are; default: the first source."),
            "given": {"anyOf": [event, list_of(event)]},
            "expect": {
                "type": ["object", "null"],
                "description": "By destination, or for the `warehouse`: a payload, or why there is none.",
            },
            "exact": flag("Whether payloads have no more keys than expected. Default: false."),
        },
        required=("given", "expect"),
        needed=True,
    )


def _enrichment(model: type[BaseModel], text: str | None) -> Schema:
    return {"description": _first_line(text), "anyOf": [flag(), _options(model, text), {"type": "null"}]}


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
    return {"anyOf": [made, VARIABLE], **described(made.pop("description", ""))} if plain else made


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n\n")[0].replace("\n", " ")
