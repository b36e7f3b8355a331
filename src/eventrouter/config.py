"""routes.yaml → `Config`, or all that is wrong with it in one `ConfigError`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .config_destinations import read_destinations
from .config_documents import Document, Documents, check_names, read_text
from .config_enrichments import read_enrichments
from .config_model import (
    TEXT_DIGITS,
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
from .config_options import mask_of
from .config_reader import Reader
from .config_routes import RoutesReader
from .config_sections import read_dedup, read_url, read_vars
from .config_sources import read_collect, read_sources
from .config_tests import read_companion, read_tests
from .errors import ConfigError, Problem
from .plugins import Plugins
from .yaml_file import MapNode, Node, Scalar, scalars

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
    "version", "include", "sources", "collect", "warehouse", "state", "dedup", "enrichments", "vars", "destinations",
    "routes", "tests",
)  # fmt: skip


def load(
    path: Path | str,
    plugins: Plugins,
    environ: Mapping[str, str],
    *,
    check_files: bool = False,
    check_tests: bool = False,
) -> Config:
    """Reads and checks the file at `path`. Raises `ConfigError` with all problems, in the order of the file.

    With `check_files`, it is a problem that a file which a plugin's option names can't be used: so it is where somebody
    looks, as at `eventrouter check`. A worker that starts again at night goes on without it. With `check_tests`, what
    is wrong with the file of tests beside this one is a problem, too; the tests themselves are `load_companion`'s.
    """
    text = read_text(Path(path))
    return loads(text, plugins, environ, path=str(path), check_files=check_files, check_tests=check_tests)


def loads(
    text: str,
    plugins: Plugins,
    environ: Mapping[str, str],
    *,
    path: str = "routes.yaml",
    check_files: bool = False,
    check_tests: bool = False,
    included: Sequence[tuple[str, str]] | None = None,
) -> Config:
    """Checks the text of a file that is called `path` in problems, with the files that it includes.

    With `included`, paths and texts, nothing is read: these were included. Raises `ConfigError` with all problems,
    those of the file itself first.
    """
    documents = Documents(plugins, environ, check_files=check_files)
    try:
        read = documents.read(text, path, KEYS, included)
        return _read(read, documents, plugins, path, environ if check_tests else None)
    except ConfigError as error:
        error.files = tuple(documents.files)
        raise


def _read(
    documents: Sequence[Document],
    source: Documents,
    plugins: Plugins,
    path: str,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """`source` is what read the documents. With `environ` the file of tests beside this one is checked, too."""
    if not documents:
        beside = read_companion(path, [path], environ, {}, [], incomplete=True).problems if environ is not None else ()
        raise ConfigError([*source.problems, *beside])
    main, reader, settings = documents[0], documents[0].reader, documents[0].settings
    for document in documents:
        if isinstance(document.root, MapNode):
            _check_version(document.reader, document.root, document.settings.get("version"), document is main)
    for section, what in (("sources", "source"), ("vars", "variable"), ("destinations", "destination")):
        check_names(documents, section, what)
    variables = read_vars([(each.reader, each.settings.get("vars")) for each in documents])
    sources = read_all_sources(documents)
    collect = read_collect(reader, settings.get("collect"))
    schemes = list(plugins.warehouses)
    warehouse = WarehouseConfig(read_url(reader, settings.get("warehouse"), "warehouse", schemes))
    state = StateConfig(read_url(reader, settings.get("state"), "state", None))
    dedup = read_dedup(reader, settings.get("dedup"))
    enrichments = read_enrichments(reader, settings.get("enrichments"))
    destinations: dict[str, DestinationConfig | None] = {}
    for each in documents:
        destinations |= read_destinations(each.reader, each.settings.get("destinations"))
    routes = RoutesReader(list(sources), list(destinations), incomplete=reader.incomplete)
    read = [route for each in documents for route in routes.read(each.reader, each.settings.get("routes"))]
    tests = []
    doubtful = reader.incomplete or routes.doubtful or any(map(_has_unknown_keys, documents))
    for each in documents:
        if not doubtful:  # else a route may well be meant to lead there
            _check_fed(each.reader, each.settings.get("destinations"), destinations, routes.fed)
        tests += read_tests(each.reader, each.settings.get("tests"), sources, list(destinations))
    problems = [*reader.problems(), *source.problems]
    problems += [problem for each in documents[1:] for problem in each.reader.problems()]
    # Beside a name that nothing installed has, it says why.
    problems += [Problem("plugins", 0, 0, str(one), one.hint, severity="warning") for one in plugins.broken.values()]
    if environ is not None:
        names = [each.reader.path for each in documents]
        incomplete = reader.incomplete
        problems += read_companion(path, names, environ, sources, list(destinations), incomplete=incomplete).problems
    if any(problem.severity == "error" for problem in problems):
        raise ConfigError(problems)
    usable = {name: destination for name, destination in destinations.items() if destination is not None}
    return Config(
        path,
        version_of(documents),
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
        files=tuple(source.files),
        texts=tuple((document.reader.path, document.text) for document in documents),
        mask=mask_of(*(document.root for document in documents)),
    )


def version_of(documents: Sequence[Document]) -> str:
    """12 hex digits: 8 (`TEXT_DIGITS`) stand for the texts of all files, 4 for what variables brought into them.

    The four are too few to know a guessed secret by. They don't depend on the texts, else each change would tell more.
    """
    values = [value for one in documents for each in scalars(one.root) for value in each.interpolated.values]
    return _digest([document.text for document in documents], TEXT_DIGITS) + _digest(values, 12 - TEXT_DIGITS)


def _digest(texts: Iterable[str], digits: int) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:digits]


def read_all_sources(documents: Sequence[Document]) -> dict[str, SourceConfig]:
    """The sources of all files; there has to be one."""
    sources: dict[str, SourceConfig] = {}
    owners: dict[str, str] = {}
    for document in documents:
        if "sources" in document.settings:
            sources |= read_sources(document.reader, document.settings["sources"], owners)
    main = documents[0]
    if isinstance(main.root, MapNode) and not any("sources" in each.settings for each in documents):
        main.reader.unknown(main.root, "there are no sources", "add `sources: { website: { write_key: … } }`")
    return sources


def _check_version(reader: Reader, root: Node, node: Node | None, needed: bool) -> None:
    if node is None:
        if needed:
            reader.problem(root, "the file has no `version`", "begin with `version: 1`")
    elif not isinstance(node, Scalar) or node.value != 1 or isinstance(node.value, bool):
        quoted = isinstance(node, Scalar) and node.style and node.text == "1"
        hint = f"write `version: 1`{', without quotes' if quoted else ''}"
        reader.problem(node, "this version of the file's format is not known", hint)


def _has_unknown_keys(document: Document) -> bool:
    return isinstance(document.root, MapNode) and document.root.keys.keys() != document.settings.keys()


def _check_fed(
    reader: Reader, node: Node | None, destinations: Mapping[str, DestinationConfig | None], fed: set[str]
) -> None:
    for name, key in node.keys.items() if isinstance(node, MapNode) else ():
        destination = destinations.get(name)
        if name not in fed and (destination is None or destination.enabled):
            hint = f"add a route with `to: {name}`, or set `enabled: false`"
            reader.problem(key, f"no route leads to the destination `{name}`", hint, severity="warning")
