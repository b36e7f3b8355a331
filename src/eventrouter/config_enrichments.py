"""Reads the enrichments of routes.yaml: which run, and with which options."""

from __future__ import annotations

from .config_model import EnrichmentConfig
from .config_options import OptionsReader
from .config_reader import Reader, did_you_mean, switch_hint
from .enrichment import Enrichment
from .yaml_file import MapNode, Node, Scalar

IDENTITY = "identity"
"""The enrichment that always runs; what it needs is in `state:`."""


def read_enrichments(reader: Reader, node: Node | None) -> dict[str, EnrichmentConfig]:
    """`enrichments:`: those that run beside identity, in the order in which they do.

    What the file doesn't mention runs when its `enabled` says so.
    """
    values = reader.mapping(node, "`enrichments`")
    keys = node.keys if isinstance(node, MapNode) else {}
    classes = {cls.name: cls for cls in reader.plugins.enrichments}
    for name, value in values.items():
        if name == IDENTITY:
            _check_identity(reader, value)
        elif name not in classes:
            reader.secret(value)  # nobody knows which of its options are secrets
            hint = did_you_mean(name, sorted(classes), "installed are")
            reader.problem(keys[name], f"no installed enrichment is called `{name}`", hint or "install it with pip")
    read = {
        name: _read_enrichment(reader, cls, keys.get(name) or node, values.get(name))
        for name, cls in classes.items()
        if name != IDENTITY
    }
    return {name: config for name, config in read.items() if config is not None}


def _read_enrichment(
    reader: Reader, cls: type[Enrichment], key: Node | None, value: Node | None
) -> EnrichmentConfig | None:
    """None for one that is switched off, or wrong."""
    if isinstance(value, Scalar) and value.broken:
        return None  # the missing variable has been told
    if value is None and not cls.enabled:
        return None
    if isinstance(value, Scalar) and value.value is not None:
        switch = value.text.lower() if value.variables else str(value.value).lower() * isinstance(value.value, bool)
        if switch == "false":
            return None
        if switch != "true":
            what = f"`{cls.name}` must be true or false, or an object with its options"
            reader.problem(value, what, switch_hint(value))
            return None
        value = None
    name = f"the enrichment `{cls.name}`"
    options = OptionsReader(reader, cls.Options, plugin=name, user=name, what=f"`{cls.name}`").read(value, key)
    return EnrichmentConfig(cls.name, options, cls) if options is not None else None


def _check_identity(reader: Reader, node: Node) -> None:
    if isinstance(node, MapNode):
        hint = "its database is configured by `state: { url: … }`"
        reader.problem(node, f"`{IDENTITY}` has no options here", hint)
    elif not reader.flag(node, f"`{IDENTITY}`", True):
        hint = "every event gets its `person_id` from it, and routes, the warehouse and `forget` build on that"
        reader.problem(node, f"the enrichment `{IDENTITY}` can't be switched off", hint)
