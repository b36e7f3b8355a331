"""The house rules: imports go downward, steps don't know one another, one library in one file, a test for each file."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "eventrouter"

FLOORS = {
    "words": """errors events times values paths http destination records warehouse merge_patch options enrichment
        acceptance lane threads masking logs disk stored unreadable log_entry blocked digest differences durations
        file_changes garbage elapsed server_time server_url worker_group""",
    "reading": """hookspecs operators filters codegen comparing compiler builder requirements facts unreachable
        syntax variables expressions condition_parts plugins quantities interpolation yaml_file config_model
        config_tests config_reader config_documents config_sections config_options config_destinations
        config_enrichments config_routes config query_parameters signatures config_webhooks scrub config_sources
        schema_shapes rules_schema settings""",
    "journey": """answer origins cookie limiter source proxies address script client_settings pages receive inflate
        write_key decode validation pixel reception webhook_source visitor accept collect lanes lease spool_entry
        spool_file spool_files spool log_write log enrichments room moves enrich route_index route delivery verdict
        attempts health probe poison calls throttle target settlement hands arrivals deliver outcome_log lane_search
        dead_letters dead_letter_log presence onlookers tracing otel counters rates limits audit lag metrics slots
        turns queue pausing once feed redelivery replay comparison server_check connections server_pool sentinel
        cluster steps step_arguments ports serve unrefused turn_failures set_aside""",
    "wiring": """routing targets unserved intake collecting outcome fates trace rule_tests hiding kept_rules
        rules_file following status stores pytest_plugin explain preview app tail child data_directory embedded
        supervise watchdog sender fake_server testing __init__ __main__ cli builtin""",
}
FLOOR = {name: level for level, names in enumerate(FLOORS.values()) for name in names.split()}

STEPS = ("collect", "accept", "log", "enrich", "route", "deliver", "dead_letters", "queue")

LIBRARIES = {
    "aiohttp": {"http"},
    "arq": {"queue"},
    "crawleruseragents": {"builtin.bots"},
    "jinja2": {"syntax"},
    "maxminddb": {"builtin.geo"},
    "opentelemetry": {"otel"},
    "pluggy": {"hookspecs", "plugins"},
    "prometheus_client": {"metrics"},
    "pydantic_settings": {"settings"},
    "ruamel": {"yaml_file"},
    "standardwebhooks": {"builtin.webhook", "signatures"},
    "ua_parser": {"builtin.user_agent"},
    "uvicorn": {"serve"},
}

MODULES = {".".join(file.relative_to(SOURCE).with_suffix("").parts): file for file in SOURCE.rglob("*.py")}


class Imports(ast.NodeVisitor):
    """The modules that a file imports when it runs (not those for type checkers alone), ours by their name within."""

    def __init__(self, module: str) -> None:
        self.package = MODULES[module].relative_to(SOURCE).parent.parts
        self.ours: set[str] = set()
        self.others: set[str] = set()
        self.visit(ast.parse(MODULES[module].read_text("utf-8")))

    def visit_If(self, node: ast.If) -> None:
        if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.others.update(alias.name.split(".")[0] for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        if not node.level:
            self.others.add(module.split(".")[0])
            if module.split(".")[0] == "eventrouter":
                self.ours.add(module.removeprefix("eventrouter").lstrip(".") or "__init__")
            return
        base = self.package[: len(self.package) - node.level + 1]
        if module:
            self.ours.add(".".join([*base, module]))
        else:
            self.ours.update(".".join([*base, alias.name]) for alias in node.names)


imports = cache(Imports)
TEST_FILES = [
    file.name
    for folder in ("tests", "plugins")
    for file in (ROOT / folder).rglob("test_*.py")
    if "node_modules" not in file.parts
]


def _floor(module: str) -> int:
    return FLOOR[module.split(".")[0]] if module.split(".")[0] in FLOOR else FLOOR["__init__"]


def test_every_file_lives_on_a_floor() -> None:
    assert {module.split(".")[0] for module in MODULES} - set(FLOOR) == set()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_downward_only(module: str) -> None:
    above = {other for other in imports(module).ours if other != "__version__" and _floor(other) > _floor(module)}
    assert above == set()


@pytest.mark.parametrize("step", STEPS)
def test_steps_of_the_journey_do_not_import_one_another(step: str) -> None:
    assert imports(step).ours & set(STEPS) == set()


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith("builtin.")))
def test_builtins_use_what_plugins_use(module: str) -> None:
    private = {
        other
        for other in imports(module).ours
        if not other.startswith("builtin.") and other != "hookspecs" and _floor(other) > FLOOR["errors"]
    }
    assert private == set()


@pytest.mark.parametrize("library", sorted(LIBRARIES))
def test_a_library_lives_in_one_place(library: str) -> None:
    assert {module for module in MODULES if library in imports(module).others} == LIBRARIES[library]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_file_is_a_room_not_a_hall(module: str) -> None:
    assert len(MODULES[module].read_text("utf-8").splitlines()) <= 320


@pytest.mark.parametrize(
    "module", sorted(name for name in MODULES if name not in ("__init__", "__main__", "builtin.__init__"))
)
def test_each_file_has_a_test_file(module: str) -> None:
    name = module.removeprefix("builtin.").removesuffix(".__init__").replace(".", "_")
    assert {f"test_{name}.py", f"test_{name}_init.py"} & set(TEST_FILES) != set()


def test_no_two_test_files_have_one_name() -> None:
    assert [] == sorted({name for name in TEST_FILES if TEST_FILES.count(name) > 1})
