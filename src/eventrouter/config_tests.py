"""Reads `tests:`, of routes.yaml itself or of the file of tests beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .config_documents import read_text
from .config_model import Config, TestConfig
from .config_reader import Reader, did_you_mean
from .errors import ConfigError
from .plugins import Plugins
from .yaml_file import ListNode, MapNode, Node, Scalar, data, parse

KEYS = ("name", "source", "given", "expect", "exact")


def companion(path: Path) -> Path:
    """Where the tests of a rules file may stand by themselves: `routes_test.yaml` beside `routes.yaml`."""
    return path.with_name(f"{path.stem}_test{path.suffix}")


def load_companion(config: Config, environ: Mapping[str, str]) -> list[TestConfig]:
    """The tests beside the file of `config`; none where there is no such file. Raises `ConfigError`."""
    path = companion(Path(config.path))
    if not path.is_file():
        return []
    text = read_text(path).replace("\r\n", "\n").replace("\r", "\n")
    root, faults = parse(text, environ)
    reader = Reader(str(path), text, Plugins())
    for fault in faults:
        reader.fault(fault)
    if root is None and not faults:
        reader.problem(None, "the file is empty", "begin with `tests:`, or remove it")
    if root is not None:
        reader.variables(root)
        settings = reader.mapping(root, "the file", ("tests",))
        if "tests" not in settings and isinstance(root, MapNode):
            reader.problem(root, "the file has no `tests`", "begin with `tests:`")
        tests = read_tests(reader, settings.get("tests"), list(config.sources), list(config.destinations))
    if problems := reader.problems(readable=root is not None):
        raise ConfigError(problems)
    return tests if root is not None else []


def read_tests(reader: Reader, node: Node | None, sources: list[str], destinations: list[str]) -> list[TestConfig]:
    """`tests:`; `sources` and `destinations` are the names that they may use."""
    if node is None or (isinstance(node, Scalar) and node.value is None):
        return []
    if not isinstance(node, ListNode):
        reader.problem(node, "`tests` must be a list", "begin each test with `- `")
        return []
    return [_read_test(reader, item, sources, destinations) for item in node.items]


def _read_test(reader: Reader, node: Node, sources: list[str], destinations: list[str]) -> TestConfig:
    settings = reader.mapping(node, "a test", KEYS)
    if isinstance(node, MapNode):
        for key in ("given", "expect"):
            if key not in settings:
                reader.problem(node, f"the test has no `{key}`")
    given: list[dict[str, Any]] = []
    for event in reader.items(settings.get("given")):
        if isinstance(event, MapNode):
            given.append(data(event))
        else:
            reader.problem(event, "`given` must be an event (an object), or a list of events")
    expect = settings.get("expect")
    expected = reader.mapping(expect, "`expect`")
    for name in expected:
        if name not in destinations:
            place = expect.keys[name] if isinstance(expect, MapNode) else None
            hint = did_you_mean(name, destinations, "the destinations are")
            reader.problem(place, f"there is no destination `{name}`", hint)
    source = reader.text(settings.get("source"), "`source`") or ""
    if source and source not in sources:
        hint = did_you_mean(source, sources, "the sources are")
        reader.problem(settings["source"], f"there is no source `{source}`", hint)
    return TestConfig(
        name=reader.text(settings.get("name"), "`name`") or f"line {node.line}",
        given=tuple(given),
        expect={key: data(value) for key, value in expected.items()},
        source=source or next(iter(sources), ""),
        exact=reader.flag(settings.get("exact"), "`exact`", False),
        path=reader.path,
        line=node.line,
    )
