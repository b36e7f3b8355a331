"""Reads variables, databases and dedup of routes.yaml."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from . import quantities
from .compiler import ROOTS
from .config_model import DedupConfig
from .config_reader import Reader, did_you_mean
from .config_webhooks import ROOTS as WEBHOOK_ROOTS
from .expressions import Expressions
from .yaml_file import MapNode, Node, Scalar, data, scalars

VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")


def read_vars(places: Sequence[tuple[Reader, Node | None]]) -> dict[str, Any]:
    """`vars:` of each file; from then on the readers' conditions and templates may use all of them."""
    values: dict[str, Any] = {}
    for reader, node in places:
        for name, value in reader.mapping(node, "`vars`").items():
            if not VARIABLE_NAME.match(name):
                key = node.keys[name] if isinstance(node, MapNode) else None
                reader.problem(key, f"`{name}` is not a name for a variable", "a letter, then letters, digits and _")
            values[name] = data(value)
    for reader, node in places:
        filters = reader.plugins.template_filters
        reader.vars = values
        reader.expressions = Expressions(filters, variables=values)
        anywhere = Expressions(filters, (*ROOTS, *WEBHOOK_ROOTS), values)
        if isinstance(node, MapNode):
            for value in node.values.values():
                reader.plain_keys(value, "vars")
            for scalar in scalars(node):
                if isinstance(scalar.value, str):
                    reader.expression(scalar, "vars", anywhere.check_template)
    return values


def read_url(reader: Reader, node: Node | None, what: str, schemes: list[str] | None) -> str:
    """`warehouse:` or `state:`, an object with `url`; an empty one is the default."""
    settings = reader.mapping(node, f"`{what}`", ("url",))
    url = settings.get("url")
    if url is None or (isinstance(url, Scalar) and (url.value in (None, "") or url.broken)):
        return ""
    reader.secret(url)
    text = reader.text(url, f"`{what}.url`")
    if text is None:
        return ""
    scheme, separator, _ = text.partition("://")
    if not separator:
        hint = "write sqlite:////absolute/path.sqlite3 or postgresql://user:password@host/database"
        reader.problem(url, f"`{what}.url` is not a URL", hint)
    elif schemes is not None and scheme.partition("+")[0] not in schemes and scheme not in schemes:
        hint = did_you_mean(scheme, sorted(schemes), "the installed ones are")
        reader.problem(url, f"no plugin serves the scheme of `{what}.url`", hint or "install one with pip")
    return text


def read_dedup(reader: Reader, node: Node | None) -> DedupConfig:
    """`dedup:`."""
    settings = reader.mapping(node, "`dedup`", ("window", "max_bytes"))
    default = DedupConfig()
    return DedupConfig(
        reader.quantity(settings.get("window"), "`dedup.window`", default.window, quantities.duration, 1),
        reader.quantity(settings.get("max_bytes"), "`dedup.max_bytes`", default.max_bytes, quantities.size, 65_536),
    )
