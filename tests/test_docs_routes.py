"""Every example of docs/routes.md, and the default routes.yaml, are run."""

import json
import re
from pathlib import Path

import jsonschema_rs
import pytest
from ruamel.yaml import YAML

from cli_kit import Place
from eventrouter.compiler import ROOTS
from eventrouter.config import load, loads
from eventrouter.config_destinations import KEYS as DESTINATION_KEYS
from eventrouter.config_routes import KEYS as ROUTE_KEYS
from eventrouter.config_tests import KEYS as TEST_KEYS
from eventrouter.errors import ConfigError
from eventrouter.events import StoredEvent
from eventrouter.expressions import Expressions
from eventrouter.filters import FILTERS, TESTS
from eventrouter.plugins import Plugins
from eventrouter.route import Router
from eventrouter.values import MISSING
from warehouse_kit import messages, record

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "routes.md").read_text()
ENVIRON = {
    "CRM_URL": "https://crm.example.com/in",
    "CRM_SECRET": "whsec_" + "c2VjcmV0" * 4,
    "ALERTS_URL": "https://alerts.example.com",
    "ALERTS_SECRET": "whsec_" + "c2VjcmV0" * 4,
    "GA4_MEASUREMENT_ID": "G-ABC123",
    "GA4_API_SECRET": "secret-of-google",
    "SHOP_WRITE_KEY": "key-of-the-shop",
    "STRIPE_WEBHOOK_SECRET": "whsec_of-stripe",
}
BLOCKS = [
    (match[1] or "", match[2], match[3])
    for match in re.finditer(r"(?:<!-- ([a-z ]+) -->\n)?```(\w+)\n(.*?)```", TEXT, re.DOTALL)
]
SAMPLE = json.loads(next(body for label, _, body in BLOCKS if label == "sample event"))


def rows(header):
    """The rows of all tables with this header: the texts of both columns."""
    found = []
    for table in re.findall(rf"\| {header} \|[^\n]*\n\|[-|]+\n((?:\|.*\n)+)", TEXT):
        for line in table.splitlines():
            first, second = re.split(r"(?<!\\)\|", line.strip("|"))
            found.append((first.strip().strip("`").replace("\\|", "|"), second.strip().strip("`")))
    return found


@pytest.fixture(scope="module")
def plugins():
    return Plugins.load()


def test_each_complete_file_is_valid(plugins):
    files = [body for label, language, body in BLOCKS if language == "yaml" and label not in ("broken", "in an editor")]
    assert len(files) == 4
    for file in files:
        assert loads(file, plugins, ENVIRON).warnings == ()


def test_each_event_gives_what_the_page_says(plugins):
    router, checked = None, 0
    for label, language, body in BLOCKS:
        if language == "yaml" and label not in ("broken", "in an editor"):
            router = Router(loads(body, plugins, ENVIRON))
        if label != "gives":
            continue
        assert router is not None
        expected = json.loads(body)
        routed = router.route([StoredEvent("website", expected.pop("event"))])
        assert routed.failed == []
        found = {one.destination: one.payload for one in routed.deliveries}
        found.update(dict(routed.filtered.keys()))
        assert found == expected
        checked += 1
    assert checked == 4


@pytest.mark.parametrize(("text", "value"), rows("condition"))
def test_each_condition_is_what_the_page_says(text, value):
    assert json.dumps(Expressions().condition(text)(SAMPLE, "website")) == value


@pytest.mark.parametrize(("text", "value"), rows("template"))
def test_each_template_gives_what_the_page_says(text, value):
    made = Expressions().template(text)(SAMPLE, "website")
    assert made is MISSING if value == "left out" else made == json.loads(value)


def test_the_tables_are_found():
    assert (len(rows("condition")), len(rows("template"))) == (36, 20)


def test_the_several_files_of_the_page_are_one(tmp_path, plugins):
    titled = dict(re.findall(r'```yaml title="([^"]+)"\n(.*?)```', TEXT, re.DOTALL))
    (tmp_path / "teams").mkdir()
    (tmp_path / "teams" / "shop.yaml").write_text("routes: [{ name: the shop's, to: crm, when: event == 'Order' }]\n")
    for name, text in titled.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match="the route can never match: `the rest` in"):
        load(tmp_path / "routes.yaml", plugins, {})
    (tmp_path / "crm.yaml").write_text(titled["crm.yaml"].replace("to: crm }", "to: crm, when: userId }"))
    names = [route.name for route in load(tmp_path / "routes.yaml", plugins, {}).routes]
    assert names == ["no page views", "the rest", "the shop's"]


def test_each_file_of_the_page_in_an_editor_names_the_schema_by_which_it_is_valid(tmp_path):
    commands = next(body for _, language, body in BLOCKS if language == "sh" and "eventrouter schema" in body)
    place = Place(tmp_path, "")
    for line in commands.splitlines():
        command, name = line.split(" > ")
        done = place.run(*command.split()[1:])
        assert done.returncode == 0
        (tmp_path / name).write_text(done.stdout)
    files = [body for label, _, body in BLOCKS if label == "in an editor"]
    names = [re.match(r"# yaml-language-server: \$schema=(.+)\n", file) for file in files]
    assert [match and match[1] for match in names] == [
        "routes.schema.json",
        "included.schema.json",
        "tests.schema.json",
    ]
    for file, match in zip(files, names, strict=True):
        value = YAML(typ="safe", pure=True).load(file)
        own, rules = (
            jsonschema_rs.Draft7Validator(json.loads((tmp_path / name).read_text()))
            for name in (match[1] if match else "", "routes.schema.json")
        )
        assert own.is_valid(value)
        assert rules.is_valid(value) is (file == files[0])
    for name, file in zip(("routes.yaml", "crm.yaml", "routes_test.yaml"), files, strict=True):
        (tmp_path / name).write_text(file)
    assert place.run("check").returncode == 0


def test_the_tests_of_the_page_end_as_it_says(tmp_path):
    text = next(body for label, _, body in BLOCKS if label == "tested")
    shown = next(body for _, language, body in BLOCKS if language == "text")
    done = Place(tmp_path, text).run("test")
    assert (done.returncode, done.stdout, done.stderr) == (1, shown, "")


def test_the_event_of_the_page_is_explained_as_it_says(tmp_path):
    blocks = {label: body for label, _, body in BLOCKS}
    done = Place(tmp_path, blocks["tested"]).run("explain", "-", stdin=blocks["event"])
    told = done.stdout.split("\n\n", 1)[1]
    assert (done.returncode, told[: len(blocks["explained"])]) == (0, blocks["explained"])


async def test_the_change_of_the_page_does_what_it_says(tmp_path, plugins):
    blocks = {label: body for label, _, body in BLOCKS}
    rules = blocks["tested"].split("tests:")[0]
    place = Place(tmp_path, rules)
    (tmp_path / "new.yaml").write_text(rules.replace("> 1000", "> 500").replace('.total }}"', '.total }} EUR"'))
    (tmp_path / ".eventrouter").mkdir()
    sqlite = plugins.warehouses["sqlite"]
    warehouse = sqlite(sqlite.Options(url=f"sqlite:///{tmp_path}/.eventrouter/warehouse.sqlite3"))
    await warehouse.start()
    orders = [
        record(
            f"m-{number}",
            receivedAt=f"2026-11-24T12:00:0{number - 1}.000Z",
            properties={"order_id": number + 6, "total": total},
        )
        for number, total in enumerate((1500, 600, 5), 1)
    ]
    await warehouse.deliver(messages(*orders))
    await warehouse.close()
    done = place.run("preview", "new.yaml")
    told = re.sub(r"\([0-9a-f]{12}\)", "(RULES)", "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines()))
    assert (done.returncode, told) == (0, blocks["previewed"])


def test_each_problem_is_told_as_the_page_says(plugins):
    broken = next(body for label, _, body in BLOCKS if label == "broken")
    shown = [body for _, language, body in BLOCKS if language == "text"][-1]
    with pytest.raises(ConfigError) as caught:
        loads(broken, plugins, {})
    assert "".join(f"{problem}\n" for problem in caught.value.problems) == shown


def test_no_key_name_filter_or_test_is_left_out():
    for key in (*DESTINATION_KEYS, *ROUTE_KEYS, *TEST_KEYS):
        assert f"| `{key}` |" in TEXT
    for name in ROOTS:
        assert f"`{name}`" in TEXT
    listed = re.search(r"Filters after `\|`: `([^`]+)`", TEXT)
    assert listed is not None
    assert set(listed[1].split()) == {*FILTERS, "default"}
    tests = re.search(r"Tests after `is`: `([^`]+)`", TEXT)
    assert tests is not None
    assert set(tests[1].split()) == set(TESTS)


def test_the_default_file_runs_as_it_is(plugins):
    config = loads((ROOT / "routes.yaml").read_text(), plugins, {})
    assert config.sources["website"].write_keys == ("dev-website",)
    routed = Router(config).route([StoredEvent("website", {**SAMPLE, "timestamp": "2026-11-24T17:00:00.123Z"})])
    assert [one.payload for one in routed.deliveries] == [
        {
            "event": "Order Completed",
            "who": "u1",
            "at": "2026-11-24T17:00:00.123Z",
            "properties": SAMPLE["properties"],
        }
    ]


def test_the_default_files_examples_are_valid_when_the_comments_are_taken_away(plugins):
    lines = (ROOT / "routes.yaml").read_text().splitlines()
    text = "\n".join(re.sub(r"^  # ", "  ", line) for line in lines)
    assert text.count("plugin:") == 3
    try:
        config = loads(text, plugins, ENVIRON)
    except ConfigError as error:  # ga4 is a package of its own, and may not be installed
        assert [problem.message for problem in error.problems] == ["no installed plugin is called `ga4`"]
    else:
        assert len(config.routes) == 3
