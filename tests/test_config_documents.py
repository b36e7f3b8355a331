"""Rules of several files: `include`."""

import os
from pathlib import Path

import pytest

from eventrouter import config_documents
from eventrouter.config import load
from eventrouter.config_documents import INCLUDED_KEYS, Documents, check_names, read_text
from eventrouter.errors import ConfigError
from eventrouter.events import StoredEvent
from eventrouter.route import Router
from routes_kit import PLUGINS

MAIN = """\
version: 1
include: [crm.yaml, "teams/*.yaml"]
sources: { website: { write_key: a } }
vars: { big: "{{ properties.total > vars.limit }}" }
routes: [{ name: pages, to: crm, when: type == "page" }]
"""
CRM = """\
vars: { limit: 10 }
destinations: { crm: { plugin: acme, options: { api_key: abcd } } }
routes: [{ name: the rest, to: crm }]
tests: [{ name: of the crm, given: { type: page }, expect: {} }]
"""
ALERTS = """\
version: 1
sources: { app: { write_key: b } }
destinations: { alerts: { plugin: acme, options: { api_key: abcd } } }
routes: [{ to: alerts, from: app, when: vars.big }]
"""


@pytest.fixture
def rules(tmp_path, monkeypatch):
    """Writes files and loads routes.yaml."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "teams").mkdir()

    def write(**files):
        texts = {"routes": MAIN, "crm": CRM, "teams/alerts": ALERTS} | files
        for name, text in texts.items():
            if text is not None:
                (tmp_path / f"{name}.yaml").write_text(text)
        return load("routes.yaml", PLUGINS, {}, check_tests=True)

    return write


def problems(rules, **files):
    with pytest.raises(ConfigError) as caught:
        rules(**files)
    return [str(problem).splitlines()[0] for problem in caught.value.problems], str(caught.value)


def test_included_files_add_to_the_file_in_their_order(rules):
    config = rules()
    assert (list(config.sources), list(config.destinations)) == (["website", "app"], ["crm", "alerts"])
    assert [(route.name, route.path, route.line) for route in config.routes] == [
        ("pages", "routes.yaml", 5),
        ("the rest", "crm.yaml", 3),
        ("route 3 to alerts", "teams/alerts.yaml", 4),
    ]
    assert config.files == ("routes.yaml", "crm.yaml", ".", "teams", "teams/alerts.yaml")
    assert [(test.name, test.path) for test in config.tests] == [("of the crm", "crm.yaml")]


def test_variables_of_all_files_are_known_in_all_of_them(rules):
    event = {"type": "track", "properties": {"total": 11}}
    routed = Router(rules()).route([StoredEvent("app", event)])
    assert {one.destination for one in routed.deliveries} == {"crm", "alerts"}


def test_the_version_stands_for_all_texts(rules):
    first = rules().version
    assert rules().version == first
    assert rules(crm=CRM.replace("10", "11")).version != first


def test_a_file_is_read_once_however_often_it_is_named(rules):
    config = rules(routes=MAIN.replace("[crm.yaml", '[crm.yaml, "*.yaml", ./crm.yaml'))
    assert [route.path for route in config.routes] == ["routes.yaml", "crm.yaml", "teams/alerts.yaml"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"crm": CRM + "sources: { website: { write_key: c } }\n"}, "crm.yaml:5:12: there is another source `website`"),
        ({"teams/alerts": ALERTS.replace("alerts:", "crm:")}, "teams/alerts.yaml:3:17: there is another destination"),
        ({"crm": CRM.replace("limit", "big")}, "crm.yaml:1:9: there is another variable `big`"),
        ({"teams/alerts": ALERTS.replace("key: b", "key: a")}, "teams/alerts.yaml:2:30: a write key of `app` is used"),
        ({"crm": CRM.replace("the rest", "pages")}, "crm.yaml:3:18: the name of the route is not its own"),
        ({"crm": CRM + "warehouse: {}\n"}, "crm.yaml:5:1: an included file has no key `warehouse`"),
        ({"crm": CRM + "include: [x.yaml]\n"}, "crm.yaml:5:1: an included file has no key `include`"),
        ({"crm": "version: 2\n" + CRM}, "crm.yaml:1:10: this version of the file's format is not known"),
        ({"crm": CRM.replace("to: crm", "to: crn")}, "crm.yaml:3:32: there is no destination `crn`"),
        ({"crm": "routes: [\n"}, "crm.yaml:2:1: not valid YAML"),
        ({"crm": ""}, "crm.yaml: the file is empty"),
        ({"routes": MAIN.replace("teams/*", "te**/*")}, "routes.yaml:2:21: `include` is not a path"),
        ({"routes": MAIN.replace("crm.yaml", "crn.yaml")}, "routes.yaml:2:11: there is no file `crn.yaml`"),
        ({"routes": MAIN.replace("crm.yaml", '"none/*.yaml"')}, "routes.yaml:2:11: there is no file `none/*.yaml`"),
        ({"routes": MAIN.replace("[crm.yaml", "[{ a: b }, crm.yaml")}, "routes.yaml:2:11: `include` must be a text"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_at_its_place_in_its_file(rules, files, expected):
    found, _ = problems(rules, **files)
    assert any(one.startswith(expected) for one in found), found


def test_other_files_are_named_with_their_paths(rules):
    _, told = problems(rules, crm=CRM.replace("the rest", "pages"))
    assert "routes.yaml:5 has it, too" in told
    _, told = problems(rules, **{"teams/alerts": ALERTS.replace("to: alerts, from: app, when: vars.big", "to: crm")})
    assert "the route can never match: `the rest` in crm.yaml:3 takes all its events" in told
    _, told = problems(rules, routes=MAIN.replace("crm.yaml", "crn.yaml"))
    assert "did you mean `crm.yaml`?" in told


def test_a_file_that_is_no_yaml_hides_no_problem_of_the_one_that_includes_it(rules):
    found, _ = problems(rules, routes=MAIN + "rotes: []\n", crm="routes: [\n")
    assert [one.split(": ", 1)[0] for one in found] == ["routes.yaml:6:1", "crm.yaml:2:1"]


def test_a_file_that_can_not_be_read_hides_no_problem_of_any_other(rules, tmp_path):
    (tmp_path / "bytes.yaml").write_bytes(b"\xff")
    (tmp_path / "routes_test.yaml").write_text("tests: [{ given: [], expect: {} }]\n")
    routes = MAIN.replace("[crm", "[gone.yaml, bytes.yaml, crm").replace('type == "page"', "evnt")
    found, _ = problems(rules, routes=routes, crm="routes: [\n", **{"teams/alerts": ALERTS.replace("when", "whn")})
    assert found == [
        "routes.yaml:2:11: there is no file `gone.yaml`",
        "routes.yaml:5:40: `when` uses the unknown name `evnt`",
        "bytes.yaml:1:1: this is not UTF-8",
        "crm.yaml:2:1: not valid YAML: expected the node content, but found '<stream end>'",
        "teams/alerts.yaml:4:35: a route has no key `whn`",
        "routes_test.yaml:1:18: `given` must not be an empty list",
    ]


@pytest.mark.parametrize(
    ("routes", "alerts"),
    [
        ("from: crm, when: source == 'crm'", "to: crm, when: vars.of_the_crm }]"),
        ("from: crm", "to: [crm, alerts], when: vars.limit > 5 }]"),
    ],
)
def test_what_may_stand_in_a_file_that_can_not_be_read_is_not_missed(rules, tmp_path, routes, alerts):
    (tmp_path / "routes_test.yaml").write_text("tests: [{ given: {}, source: crm, expect: { crm: {} } }]\n")
    main = MAIN.replace('when: type == "page"', routes)
    found, _ = problems(
        rules,
        routes=main,
        crm="routes: [\n",
        **{"teams/alerts": ALERTS.replace("to: alerts, from: app, when: vars.big }]", alerts)},
    )
    assert found == ["crm.yaml:2:1: not valid YAML: expected the node content, but found '<stream end>'"]


def test_sources_may_stand_in_a_file_that_can_not_be_read(rules):
    routes = MAIN.replace("sources: { website: { write_key: a } }\n", "")
    found, _ = problems(rules, routes=routes, **{"teams/alerts": "sources: [\n"})
    assert found == ["teams/alerts.yaml:2:1: not valid YAML: expected the node content, but found '<stream end>'"]


def test_tests_beside_a_file_that_can_not_be_read_are_checked(rules, tmp_path):
    (tmp_path / "routes_test.yaml").write_text("tests: [{ given: {}, expect: { crm: {} }, extra: 1 }]\n")
    found, _ = problems(rules, routes="version: [\n")
    assert found == [
        "routes.yaml:2:1: not valid YAML: expected the node content, but found '<stream end>'",
        "routes_test.yaml:1:43: a test has no key `extra`",
    ]


def test_an_included_file_without_anything_is_told_what_it_may_hold(rules):
    _, told = problems(rules, crm="# nothing yet\n")
    assert "crm.yaml: the file is empty\n  = hint: write what it adds, such as `routes:`" in told


def test_a_file_that_may_not_be_read_is_told(tmp_path):
    with pytest.raises(ConfigError, match="is a directory"):
        read_text(tmp_path)
    with pytest.raises(ConfigError, match="there is no such file"):
        read_text(tmp_path / "no.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"version: 1\n# \xe4\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml:2:3: this is not UTF-8"):
        read_text(tmp_path / "latin.yaml")
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfversion: 1\n")
    assert read_text(tmp_path / "bom.yaml") == "version: 1\n"


def test_a_pipe_is_read_to_its_end_and_one_that_nobody_writes_to_holds_nobody_up(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert read_text(tmp_path / "pipe") == ""
    reading, writing = os.pipe()
    os.write(writing, b"version: 1\n")
    os.close(writing)
    assert read_text(Path(f"/dev/fd/{reading}")) == "version: 1\n"
    os.close(reading)


def test_names_of_one_file_alone_are_no_problem():
    (document,) = Documents(PLUGINS, {}).read("vars: { a: 1, b: 2 }\n", "one.yaml", INCLUDED_KEYS)
    check_names([document], "vars", "variable")
    assert document.reader.problems() == []


def test_more_files_than_may_be_included_are_a_problem_and_none_is_left_out_silently(rules, tmp_path, monkeypatch):
    monkeypatch.setattr(config_documents, "MAX_FILES", 3)
    assert len({route.path for route in rules().routes}) == 3
    (tmp_path / "teams" / "more.yaml").write_text("routes: []\n")
    found, _ = problems(rules)
    assert "routes.yaml:2:21: `include` names more than 3 files" in found
