"""Reads `tests:`, of routes.yaml itself or of the file of tests beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from .config_documents import read_text
from .config_model import Config, PostConfig, SourceConfig, TestConfig
from .config_options import mask_of
from .config_reader import Reader, did_you_mean
from .errors import ConfigError, Problem
from .plugins import Plugins
from .yaml_file import ListNode, MapNode, Node, Scalar, data, parse

WAREHOUSE = "warehouse"
"""What `expect` calls the events as they are stored."""
POST_KEYS = ("body", "headers", "query")
NEEDED = {
    "given": "add the event: `given: { type: page }`",
    "expect": "say what each destination gets; `expect: {}`: none gets anything",
}
"""What a test can't do without, and how it is written."""
KEYS = ("name", "source", "given", "expect", "exact")


def companion(path: Path) -> Path:
    """Where the tests of a rules file may stand by themselves: `routes_test.yaml` beside `routes.yaml`."""
    return path.with_name(f"{path.stem}_test{path.suffix}")


class Beside(NamedTuple):
    """What the file of tests beside a rules file holds."""

    tests: Sequence[TestConfig] = ()
    problems: Sequence[Problem] = ()
    root: Node | None = None


def load_companion(config: Config, environ: Mapping[str, str]) -> Config:
    """`config` with the tests of the file beside its own, if there is one, behind its own. Raises `ConfigError`."""
    read = [path for path, _ in config.texts]
    beside = read_companion(config.path, read, environ, config.sources, list(config.destinations))
    if beside.problems:
        raise ConfigError(beside.problems)
    if beside.root is None:
        return config
    return replace(config, tests=[*config.tests, *beside.tests], mask=config.mask | mask_of(beside.root))


def read_companion(
    rules: str,
    read: Iterable[str],
    environ: Mapping[str, str],
    sources: Mapping[str, SourceConfig],
    destinations: list[str],
    *,
    incomplete: bool = False,
) -> Beside:
    """The file of tests beside `rules`, with its problems; nothing where there is none, or it was `read` already.

    `incomplete`: there may be more sources and destinations, in a file that can't be read.
    """
    path = companion(Path(rules))
    if not path.is_file() or path.resolve() in {Path(one).resolve() for one in read}:
        return Beside()
    try:
        text = read_text(path).replace("\r\n", "\n").replace("\r", "\n")
    except ConfigError as error:
        return Beside(problems=error.problems)
    root, faults = parse(text, environ)
    reader = Reader(str(path), text, Plugins())
    reader.incomplete = incomplete
    for fault in faults:
        reader.fault(fault)
    if root is None and not faults:
        reader.problem(None, "the file is empty", "begin with `tests:`, or remove it")
    tests: list[TestConfig] = []
    if root is not None:
        reader.variables(root)
        settings = reader.mapping(root, "the file", ("tests",), needed=True)
        if "tests" not in settings and isinstance(root, MapNode):
            reader.problem(root, "the file has no `tests`", "begin with `tests:`")
        tests = read_tests(reader, settings.get("tests"), sources, destinations)
    return Beside(tests, reader.problems(readable=root is not None), root)


def read_tests(
    reader: Reader, node: Node | None, sources: Mapping[str, SourceConfig], destinations: list[str]
) -> list[TestConfig]:
    """`tests:`; `sources` and the names of `destinations` are those that they may use."""
    if node is None or (isinstance(node, Scalar) and node.value is None):
        return []
    if not isinstance(node, ListNode):
        reader.problem(node, "`tests` must be a list", "begin each test with `- `")
        return []
    return [_read_test(reader, item, sources, destinations) for item in node.items]


def _read_test(reader: Reader, node: Node, sources: Mapping[str, SourceConfig], destinations: list[str]) -> TestConfig:
    settings = reader.mapping(node, "a test", KEYS, needed=True)
    if isinstance(node, MapNode):
        for key, hint in NEEDED.items():
            if key not in settings:
                reader.problem(node, f"the test has no `{key}`", hint)
    source = reader.text(settings.get("source"), "`source`") or ""
    if source and source not in sources:
        hint = did_you_mean(source, sources, "the sources are")
        reader.unknown(settings["source"], f"there is no source `{source}`", hint)
    source = source or next(iter(sources), "")
    given: list[dict[str, Any] | PostConfig] = []
    events = settings.get("given")
    if isinstance(events, ListNode) and not events.items:
        reader.problem(events, "`given` must not be an empty list", "without an event the test tests nothing")
    for event in reader.items(events):
        if not isinstance(event, MapNode):
            reader.problem(event, "`given` must be an event (an object), or a list of events")
        elif "type" not in event.values and not event.values.keys().isdisjoint(POST_KEYS):
            given.append(_read_post(reader, event))
            if source in sources and sources[source].webhook is None:
                known = [f"`source: {name}`" for name, one in sources.items() if one.webhook is not None]
                hint = f"say whose it is: {' or '.join(known)}" if known else "an event has a `type`"
                reader.problem(event, f"the source `{source}` has no `webhook` that takes a body", hint)
        else:
            given.append(data(event))
    expect = settings.get("expect")
    expected = reader.mapping(expect, "`expect`")
    for name in expected:
        if name not in (*destinations, WAREHOUSE):
            place = expect.keys[name] if isinstance(expect, MapNode) else None
            hint = did_you_mean(name, [*destinations, WAREHOUSE], "the destinations are")
            reader.unknown(place, f"there is no destination `{name}`", hint)
    return TestConfig(
        name=reader.text(settings.get("name"), "`name`") or f"line {node.line}",
        given=tuple(given),
        expect={key: data(value) for key, value in expected.items()},
        source=source,
        exact=reader.flag(settings.get("exact"), "`exact`", False),
        path=reader.path,
        line=node.line,
    )


def _read_post(reader: Reader, node: MapNode) -> PostConfig:
    settings = reader.mapping(node, "what is posted", POST_KEYS)
    if "body" not in settings:
        reader.problem(node, "what is posted has no `body`")
    texts: dict[str, dict[str, str]] = {"headers": {}, "query": {}}
    for key, found in texts.items():
        for name, value in reader.mapping(settings.get(key), f"`{key}`").items():
            if not isinstance(value, Scalar) or value.value is None:
                reader.problem(value, f"each of `{key}` must be a text")
            else:
                found[name.lower() if key == "headers" else name] = value.text
    return PostConfig(data(settings["body"]) if "body" in settings else None, **texts)
