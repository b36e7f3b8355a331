"""Reads databases, dedup and tests of routes.yaml."""

from __future__ import annotations

from typing import Any

from . import quantities
from .config_model import DedupConfig, TestConfig
from .config_reader import Reader, did_you_mean
from .yaml_file import ListNode, MapNode, Node, Scalar, data


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


def read_tests(reader: Reader, node: Node | None, destinations: list[str]) -> list[TestConfig]:
    """`tests:`, whose shape is checked."""
    if node is None:
        return []
    if not isinstance(node, ListNode):
        reader.problem(node, "`tests` must be a list")
        return []
    tests = []
    for item in node.items:
        settings = reader.mapping(item, "a test", ("name", "given", "expect"))
        if isinstance(item, MapNode):
            for key in ("given", "expect"):
                if key not in settings:
                    reader.problem(item, f"the test has no `{key}`")
        given: list[dict[str, Any]] = []
        for event in reader.items(settings.get("given")):
            if isinstance(event, MapNode):
                given.append(data(event))
            else:
                reader.problem(event, "`given` must be an event (an object), or a list of events")
        expect = reader.mapping(settings.get("expect"), "`expect`")
        for name in expect:
            if name not in destinations:
                place = settings["expect"].keys[name] if isinstance(settings["expect"], MapNode) else None
                hint = did_you_mean(name, destinations, "the destinations are")
                reader.problem(place, f"there is no destination `{name}`", hint)
        name_node = settings.get("name")
        name = (reader.text(name_node, "`name`") if name_node else None) or f"line {item.line}"
        expected = {key: data(value) for key, value in expect.items()}
        tests.append(TestConfig(name, tuple(given), expected, item.line))
    return tests
