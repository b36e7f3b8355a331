"""Reads databases and dedup of routes.yaml."""

from __future__ import annotations

from . import quantities
from .config_model import DedupConfig
from .config_reader import Reader, did_you_mean
from .yaml_file import Node, Scalar


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
