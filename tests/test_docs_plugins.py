"""The plugin guide: its files are installed and run, its tables and signatures are those of the code."""

import ast
import inspect
import os
import re
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import pytest

from eventrouter import hookspecs
from eventrouter.config import load
from eventrouter.destination import Destination, Message
from eventrouter.enrichment import PROTECTED, Enrichment
from eventrouter.plugins import Plugins

GUIDE = (Path(__file__).parents[1] / "docs" / "plugins.md").read_text()
BLOCKS = dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', GUIDE, re.MULTILINE | re.DOTALL))


def signatures(source: str) -> dict[str, str]:
    """Each function at the top of `source` with its signature."""
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return {node.name: f"({ast.unparse(node.args)}) -> {ast.unparse(node.returns)}" for node in functions}


def rows(after: str) -> list[str]:
    """The first cells of the first table after a text of the guide."""
    table = GUIDE.split(after, 1)[1].split("|---|", 1)[1].split("\n\n", 1)[0]
    return [name for cell in re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)", cell)]


def test_every_hook_stands_there_with_its_exact_signature():
    specified = {
        name: signature
        for name, signature in signatures(inspect.getsource(hookspecs)).items()
        if hasattr(getattr(hookspecs, name), "eventrouter_spec")
    }
    assert signatures(BLOCKS["hooks"]) == specified
    assert rows("## The hooks") == list(specified)


def test_every_attribute_of_a_destination_and_field_of_a_message_stands_there():
    attributes = [name for name, kind in Destination.__annotations__.items() if "ClassVar" in str(kind)]
    assert sorted(rows("## What a destination says about itself")) == sorted([*attributes, "Options"])
    assert sorted(rows("Each message has")) == sorted([*Message.__annotations__, "payload", "json"])


def test_every_attribute_of_an_enrichment_and_both_of_its_methods_stand_there():
    attributes = [name for name, kind in Enrichment.__annotations__.items() if "ClassVar" in str(kind)]
    assert sorted(rows("## Enrichments")) == sorted([*attributes, "Options"])
    (cls,) = ast.parse(textwrap.dedent(inspect.getsource(Enrichment))).body
    written = ast.parse(BLOCKS["enrichment"]).body
    for method in written:
        (own,) = [one for one in cls.body if getattr(one, "name", "") == method.name]
        assert type(own) is type(method)
        assert ast.unparse(own.args) == ast.unparse(method.args)
        assert ast.unparse(own.returns) == ast.unparse(method.returns)
    assert all(f"`{name}`" in GUIDE for name in PROTECTED)


def module(title: str) -> types.ModuleType:
    made = types.ModuleType(Path(title).stem)
    exec(compile(BLOCKS[title], title, "exec"), made.__dict__)
    return made


def test_the_module_with_several_hooks_works(capsys):
    plugins = Plugins(module("example_hooks.py"))
    assert plugins.template_filters["initials"]("ada lovelace") == "AL"
    (weekend,) = plugins.enrichments
    event = {"messageId": "m", "context": {"weekday": "Sunday"}}
    assert weekend(weekend.Options()).patch(event) == {"context": {"weekend": True}}
    assert weekend(weekend.Options()).patch({"messageId": "m"}) is None
    plugins.hook.event_dropped(source="website", message_id="m", destination="crm", reason="HTTP 400")
    assert capsys.readouterr().err == "crm: HTTP 400\n"


@pytest.fixture
def guide(tmp_path):
    """The guide's files, written and installed: their directory and the environment that sees them."""
    for title, text in BLOCKS.items():
        if "/" in title or title == "routes.yaml":
            path = tmp_path / title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    install = "-m pip --disable-pip-version-check install --no-index --no-deps --no-build-isolation --target site"
    run(tmp_path, os.environ, *install.split(), "./eventrouter-acme")
    bare = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}  # the kit needs no plugin of pytest's
    return tmp_path, {**os.environ, **bare, "PYTHONPATH": str(tmp_path / "site")}


def run(directory, environment, *arguments) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=directory, env=environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_first_destination_installs_is_listed_and_passes_its_test(guide):
    directory, environment = guide
    script = "from eventrouter.plugins import Plugins; print(*Plugins.load().list(), sep='\\n')"
    listed = run(directory, environment, "-c", script)
    assert "Posts each batch of events to Acme's /import endpoint." in listed
    assert "eventrouter-acme" in listed
    options = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "eventrouter-acme/tests")
    passed = re.search(r"(\d+) passed", run(directory, environment, *options))
    assert passed is not None
    assert int(passed[1]) > 10


def test_the_routes_of_the_guide_are_valid_and_use_the_plugin(tmp_path):
    acme = module("eventrouter-acme/src/eventrouter_acme/__init__.py")
    path = tmp_path / "routes.yaml"
    path.write_text(BLOCKS["routes.yaml"])
    crm = load(path, Plugins(acme), {"ACME_KEY": "s3cr3t"}).destinations["crm"]
    assert (crm.cls, crm.batch_size, crm.batch_wait) == (acme.Acme, 50, 1.0)
    assert crm.options.api_key.get_secret_value() == "s3cr3t"
