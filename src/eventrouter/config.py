"""routes.yaml → `Config`, or all that is wrong with it in one `ConfigError`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from .config_destinations import read_destinations
from .config_enrichments import read_enrichments
from .config_model import (
    CollectConfig,
    Config,
    CookieConfig,
    DedupConfig,
    DestinationConfig,
    EnrichmentConfig,
    HashConfig,
    RetryConfig,
    RouteConfig,
    ScrubConfig,
    SourceConfig,
    StateConfig,
    TestConfig,
    VerifyConfig,
    WarehouseConfig,
    WebhookSourceConfig,
)
from .config_reader import Reader
from .config_routes import RoutesReader
from .config_sections import read_dedup, read_url, read_vars
from .config_sources import read_collect, read_sources
from .config_tests import read_tests
from .errors import ConfigError, Problem
from .plugins import Plugins
from .yaml_file import MAX_BYTES, MapNode, Node, Scalar, parse

__all__ = [
    "CollectConfig",
    "Config",
    "CookieConfig",
    "DedupConfig",
    "DestinationConfig",
    "EnrichmentConfig",
    "HashConfig",
    "RetryConfig",
    "RouteConfig",
    "ScrubConfig",
    "SourceConfig",
    "StateConfig",
    "TestConfig",
    "VerifyConfig",
    "WarehouseConfig",
    "WebhookSourceConfig",
    "load",
    "loads",
]

KEYS = (
    "version", "sources", "collect", "warehouse", "state", "dedup", "enrichments", "vars", "destinations", "routes",
    "tests",
)  # fmt: skip

BEGIN = "name your file with --config or EVENTROUTER_CONFIG; `eventrouter up` writes a routes.yaml where there is none"


def load(path: Path | str, plugins: Plugins, environ: Mapping[str, str], *, check_files: bool = False) -> Config:
    """Reads and checks the file at `path`. Raises `ConfigError` with all problems, in the order of the file.

    With `check_files`, it is a problem that a file which a plugin's option names can't be used: so it is where somebody
    looks, as at `eventrouter check`. A worker that starts again at night goes on without it.
    """
    name = str(path)
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        near = get_close_matches(Path(path).name, [one.name for one in Path(path).parent.glob("*.y*ml")], 1)
        hint = f"did you mean {Path(path).with_name(near[0])}?" if near else BEGIN
        raise ConfigError([Problem(name, 0, 0, "there is no such file", hint)]) from None
    except IsADirectoryError:
        raise ConfigError([Problem(name, 0, 0, "is a directory", f"give a file, such as {name}/routes.yaml")]) from None
    except PermissionError:
        hint = "change its owner or its permissions (chmod)"
        raise ConfigError([Problem(name, 0, 0, "this user may not read the file", hint)]) from None
    except OSError as error:
        raise ConfigError([Problem(name, 0, 0, f"can't be read: {error.strerror}", "give another file")]) from None
    if len(content) > MAX_BYTES:
        raise ConfigError([Problem(name, 0, 0, f"is larger than {MAX_BYTES:,} bytes", "make it smaller")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1) + 1
        problem = Problem(name, line, column, "this is not UTF-8", "save the file in the encoding UTF-8")
        raise ConfigError([problem]) from None
    return loads(text, plugins, environ, path=name, check_files=check_files)


def loads(
    text: str,
    plugins: Plugins,
    environ: Mapping[str, str],
    *,
    path: str = "routes.yaml",
    check_files: bool = False,
) -> Config:
    """Checks the text of a file that is called `path` in problems. Raises `ConfigError`."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    root, faults = parse(text, environ)
    reader = Reader(path, text, plugins, check_files=check_files)
    for fault in faults:
        reader.fault(fault)
    if root is None:
        if not faults:
            reader.problem(None, "the file is empty", "begin with `version: 1`")
        raise ConfigError(reader.problems(readable=False))
    reader.variables(root)
    settings = reader.mapping(root, "the file", KEYS)
    if isinstance(root, MapNode):
        _check_version(reader, root, settings.get("version"))
    sources = read_sources(reader, settings["sources"]) if "sources" in settings else {}
    if "sources" not in settings and isinstance(root, MapNode):
        reader.problem(root, "there are no sources", "add `sources: { website: { write_key: … } }`")
    collect = read_collect(reader, settings.get("collect"))
    variables = read_vars(reader, settings.get("vars"))
    schemes = list(plugins.warehouses)
    warehouse = WarehouseConfig(read_url(reader, settings.get("warehouse"), "warehouse", schemes))
    state = StateConfig(read_url(reader, settings.get("state"), "state", None))
    dedup = read_dedup(reader, settings.get("dedup"))
    enrichments = read_enrichments(reader, settings.get("enrichments"))
    destinations = read_destinations(reader, settings.get("destinations"))
    routes = RoutesReader(reader, list(sources), list(destinations))
    read = routes.read(settings.get("routes"))
    _check_fed(reader, settings.get("destinations"), destinations, routes.fed)
    tests = read_tests(reader, settings.get("tests"), list(sources), list(destinations))
    problems = reader.problems()
    if any(problem.severity == "error" for problem in problems):
        raise ConfigError(problems)
    version = hashlib.sha256(text.encode()).hexdigest()[:12]
    usable = {name: destination for name, destination in destinations.items() if destination is not None}
    return Config(
        path,
        version,
        sources,
        collect=collect,
        warehouse=warehouse,
        state=state,
        dedup=dedup,
        enrichments=enrichments,
        destinations=usable,
        vars=variables,
        routes=read,
        tests=tests,
        warnings=tuple(problems),
    )


def _check_version(reader: Reader, root: Node, node: Node | None) -> None:
    if node is None:
        reader.problem(root, "the file has no `version`", "begin with `version: 1`")
    elif not isinstance(node, Scalar) or node.value != 1 or isinstance(node.value, bool):
        reader.problem(node, "this version of the file's format is not known", "write `version: 1`")


def _check_fed(
    reader: Reader, node: Node | None, destinations: Mapping[str, DestinationConfig | None], fed: set[str]
) -> None:
    for name, destination in destinations.items():
        if name not in fed and isinstance(node, MapNode) and (destination is None or destination.enabled):
            hint = f"add a route with `to: {name}`, or set `enabled: false`"
            reader.problem(node.keys[name], f"no route leads to the destination `{name}`", hint, severity="warning")
