import pytest

from eventrouter import config_documents
from eventrouter.config import load as load_file
from eventrouter.config import loads
from eventrouter.errors import ConfigError
from eventrouter.plugins import Plugins
from routes_kit import HEAD, PLUGINS, load, plugins_with_a_broken_one

DESIGN = """\
version: 1
sources:
  website: { write_key: "${WEBSITE_WRITE_KEY:-dev-website}" }
warehouse: { url: "${WAREHOUSE_URL:-}" }
destinations:
  crm:
    plugin: acme
    options: { api_key: "${ACME_KEY}" }
    consent: marketing
    batch: { size: 100, wait: 1s }
    retry: { initial: 1s, max_interval: 5m, max_age: 72h }
routes:
  - name: orders to the CRM, in cents
    to: crm
    from: website
    when: event == "Order Completed" and properties.total >= 10
    set: { properties.total_cents: "{{ (properties.total * 100) | int }}" }
    drop: [context.ip, properties.notes]
  - name: a tenth of page views
    to: crm
    when: type == "page"
    sample: 10%
tests:
  - name: a small order goes nowhere but the warehouse
    given: { type: track, event: Order Completed, properties: { total: 5 } }
    expect: {}
"""


def problems(text, **environ):
    with pytest.raises(ConfigError) as caught:
        load(text, **environ)
    return caught.value.problems


def test_a_whole_file_is_read():
    config = load(DESIGN, ACME_KEY="abcd")
    assert config.sources["website"].write_keys == ("dev-website",)
    assert (config.warehouse.url, config.state.url) == ("", "")
    assert (config.dedup.window, config.dedup.max_bytes) == (86_400, 256 * 1024**2)
    crm = config.destinations["crm"]
    assert (crm.plugin, crm.consent, crm.batch_size, crm.batch_wait) == ("acme", ("marketing",), 100, 1.0)
    assert (crm.retry.initial, crm.retry.max_interval, crm.retry.max_age) == (1.0, 300.0, 259_200.0)
    assert crm.options.api_key.get_secret_value() == "abcd"
    first, second = config.routes
    assert (first.name, first.to, first.from_) == ("orders to the CRM, in cents", ("crm",), ("website",))
    assert first.set == {"properties.total_cents": "{{ (properties.total * 100) | int }}"}
    assert (first.drop, first.line, second.sample) == (("context.ip", "properties.notes"), 13, 0.1)
    assert config.tests[0].given == ({"type": "track", "event": "Order Completed", "properties": {"total": 5}},)
    assert config.warnings == ()


def test_a_plugin_that_cannot_be_imported_is_an_error_only_where_the_file_names_it():
    plugins = plugins_with_a_broken_one()
    unused = loads(HEAD + "  - { to: [crm, alerts, off] }\n", plugins, {})
    assert [str(one) for one in unused.warnings] == [
        "plugins: warning: plugin 'late' can't be imported\n  = hint: upgrade it"
    ]
    with pytest.raises(ConfigError) as caught:
        loads(HEAD.replace("off: { plugin: acme", "off: { plugin: late"), plugins, {})
    assert "no installed plugin is called `late`" in str(caught.value)
    assert "plugin 'late' can't be imported" in str(caught.value)


def test_the_sample_of_the_design_is_reported_as_it_says():
    text = DESIGN.replace('event == "Order Completed" and properties.total >= 10', "event = 'Order Completed'")
    (problem,) = problems(text, ACME_KEY="abcd")
    assert str(problem) == (
        "routes.yaml:16:17: `when` is not a valid expression\n"
        "16|     when: event = 'Order Completed'\n"
        "  |                 ^\n"
        "  = hint: compare with =="
    )


def test_the_version_stands_for_the_text():
    one, two = load(HEAD + "- { to: crm }"), load(HEAD + "- { to: crm } ")
    assert one.version == load(HEAD + "- { to: crm }").version
    assert one.version != two.version
    assert len(one.version) == 12


def test_the_version_stands_for_what_variables_brought_into_it_and_tells_little_of_it():
    text = HEAD.replace("dev-app", "'${KEY:-k}'") + "- { to: crm }"
    one, two = load(text, KEY="one-secret"), load(text, KEY="another")
    assert one.version == load(text, KEY="one-secret").version != two.version
    assert one.version[:8] == two.version[:8] == load(text).version[:8]
    assert load(text + " ", KEY="another").version[8:] == two.version[8:]


def test_what_was_included_is_read_from_texts_that_are_given():
    kept = [("/etc/er/more.yaml", "routes: [{ to: alerts }]")]
    text = HEAD.replace("version: 1\n", "version: 1\ninclude: more.yaml\n") + "  - { to: crm }"
    config = loads(text, PLUGINS, {}, included=kept)
    assert [route.to for route in config.routes] == [("crm",), ("alerts",)]
    assert config.texts == (("routes.yaml", text), *kept)
    assert loads(text, PLUGINS, {}, included=config.texts[1:]).version == config.version


@pytest.mark.parametrize(
    "routes", ["- { too: crm }", "- { to: crn }", "- { to: }", "- crm", "- { to: [alerts, crn] }", "  x: y"]
)
def test_that_no_route_leads_to_a_destination_is_only_told_where_it_is_known_where_all_lead(routes):
    found = problems(HEAD + routes + "\n")
    assert [one.message for one in found if one.severity == "warning"] == []
    told = problems(HEAD + "  - { to: crm, whn: 1 }\n")
    assert [one.message for one in told if one.severity == "warning"] == ["no route leads to the destination `alerts`"]


def test_that_no_route_leads_to_a_destination_is_not_told_beside_a_misspelled_key():
    assert [one.message for one in problems(HEAD.replace("routes:", "rotes:"))] == ["the file has no key `rotes`"]


def test_the_version_is_a_number():
    (problem,) = problems("version: '1'\nsources: { a: { write_key: b } }")
    assert problem.hint == "write `version: 1`, without quotes"


def test_all_problems_come_in_one_run_in_the_order_of_the_file():
    found = problems(
        """\
version: 2
sources: { website: { write_key: a, foo: 1 } }
dedup: { window: long }
destinations:
  crm: { plugin: acmee }
  alerts: { plugin: acme, options: { api_key: "${GONE}" } }
routes:
  - to: crn
    when: evnt == "x"
  - to: alerts
extra: 1
"""
    )
    assert [(problem.line, problem.message) for problem in found] == [
        (1, "this version of the file's format is not known"),
        (2, "the source `website` has no key `foo`"),
        (3, "`dedup.window` is not valid"),
        (5, "no installed plugin is called `acmee`"),
        (6, "the variable GONE is not set"),
        (8, "there is no destination `crn`"),
        (9, "`when` uses the unknown name `evnt`"),
        (11, "the file has no key `extra`"),
    ]
    assert [problem.hint for problem in found if problem.line in (5, 8)] == [
        "did you mean `acme`?",
        "did you mean `crm`?",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("~\n", "the file must be an object (`key: value`)"),
        ("sources: { a: { write_key: b } }", "the file has no `version`"),
        ("version: '1'\nsources: { a: { write_key: b } }", "this version of the file's format is not known"),
        ("version: 1", "there are no sources"),
        ("version: 1\nsources:\n", "there are no sources"),
        ("- version: 1", "the file must be an object (`key: value`)"),
        ("just text", "the file must be an object (`key: value`)"),
    ],
)
def test_a_file_that_lacks_the_first_things_is_told_so(text, message):
    assert [problem.message for problem in problems(text)] == [message]


def test_a_destination_without_a_route_is_only_a_warning():
    config = load(HEAD + "- { to: crm }")
    assert [(one.severity, one.line, one.message) for one in config.warnings] == [
        ("warning", 7, "no route leads to the destination `alerts`")
    ]
    assert "routes.yaml:7:3: warning: no route" in str(config.warnings[0])


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ConfigError, match="there is no such file") as caught:
        load_file(tmp_path / "gone.yaml", Plugins(), {})
    assert "EVENTROUTER_CONFIG" in caught.value.problems[0].hint
    (tmp_path / "routes.yml").touch()
    with pytest.raises(ConfigError, match=f"did you mean {tmp_path}/routes.yml") as caught:
        load_file(tmp_path / "routes.yaml", Plugins(), {})


def test_a_directory_is_told(tmp_path):
    with pytest.raises(ConfigError, match=f"is a directory\n  = hint: give a file, such as {tmp_path}/routes.yaml"):
        load_file(tmp_path, Plugins(), {})


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(), "this user may not read the file\n.*chmod"),
        (OSError(5, "Input/output error"), "can't be read"),
    ],
)
def test_a_file_that_cannot_be_opened_is_told(tmp_path, monkeypatch, error, message):
    def fail(*_):
        raise error

    monkeypatch.setattr(config_documents, "_opened", fail)
    with pytest.raises(ConfigError, match=message):
        load_file(tmp_path / "routes.yaml", Plugins(), {})


@pytest.mark.parametrize(
    ("content", "message", "place"),
    [
        (b"version: 1\nsources: \xff\xfe", "this is not UTF-8", (2, 10)),
        ("version: 1".encode("utf-16"), "this is not UTF-8", (1, 1)),
        (b"# " + b"x" * 1_100_000, "is larger than 1,048,576 bytes", (0, 0)),
    ],
)
def test_a_file_that_cannot_be_read_as_text_is_told(tmp_path, content, message, place):
    file = tmp_path / "routes.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_file(file, Plugins(), {})
    (problem,) = caught.value.problems
    assert (problem.message, (problem.line, problem.column)) == (message, place)


def test_a_file_with_windows_line_ends_is_read(tmp_path):
    file = tmp_path / "routes.yaml"
    file.write_bytes((HEAD + "- { to: crm, when: evnt }\n").replace("\n", "\r\n").encode("utf-8-sig"))
    with pytest.raises(ConfigError) as caught:
        load_file(file, PLUGINS, {})
    assert [(one.line, one.column) for one in caught.value.problems if one.severity == "error"] == [(10, 20)]


SECRET = "s3cr3t-value"


@pytest.mark.parametrize(
    "text",
    [
        HEAD.replace("api_key: abcd", 'api_key: "${SECRET}", region: "${SECRET}"'),
        HEAD.replace("api_key: abcd", f"api_key: {SECRET}, region: nowhere"),
        HEAD.replace("api_key: abcd", f"api_key: abcd, headers: {{ Authorization: [{SECRET}] }}"),
        HEAD.replace("api_key: abcd", f"api_key: abcd, nested: {{ token: {SECRET}, depth: x }}"),
        HEAD.replace("acme, options: { api_key: abcd }", f"acmee, options: {{ api_key: {SECRET} }}"),
        HEAD.replace("plugin: acme", 'plugin: "${SECRET}"'),
        HEAD + '- { to: crm, when: "${SECRET} == 1" }',
        HEAD + '- { to: crm, when: "event == ${SECRET}" }',
        HEAD + '- { to: crm, set: { a: "{{ ${SECRET} }}" } }',
        HEAD + '- { to: "${SECRET}" }',
        HEAD + '- { to: crm, from: "${SECRET}", sample: "${SECRET}", drop: ["${SECRET}..x"] }',
        HEAD + f"- {{ to: crn, hash: {{ salt: {SECRET}, fields: [a..b] }} }}",
        HEAD + "- { to: crm }\n" + f"warehouse: {{ url: 'oracle://user:{SECRET}@host/db' }}",
        HEAD + "- { to: crm }\n" + "state: { url: 'user:${SECRET}' }",
        HEAD.replace("api_key: abcd", f'api_key: "{SECRET}'),
    ],
)
def test_secrets_are_in_no_problem(text):
    for problem in problems(text, SECRET=SECRET):
        assert SECRET not in str(problem)
        assert SECRET not in repr(problem)


def test_secrets_are_in_no_representation():
    config = load(
        HEAD.replace("abcd", SECRET)
        + f"- {{ to: [crm, alerts], hash: {{ salt: {SECRET}, fields: [userId] }} }}\n"
        + f"warehouse: {{ url: 'sqlite:////{SECRET}' }}\nstate: {{ url: 'sqlite:////{SECRET}' }}\n"
    )
    assert SECRET not in repr(config)


def test_what_variables_brought_into_any_section_is_known_but_not_shown():
    values = """set: { a: "${KEY}", b: "${SHORT}" }"""
    text = f"""{HEAD}  - {{ to: [crm, alerts], when: 'context.ip == "${{IP}}"', {values} }}\n"""
    config = load(text, IP="203.0.113.7", KEY="s3cr3t-of-mine", SHORT="abc")
    assert "********** ********** abc" == config.mask("203.0.113.7 s3cr3t-of-mine abc")
    assert "Mask" not in repr(config)
    assert load(text, IP="203.0.113.7", KEY="another-one", SHORT="abc").mask("s3cr3t-of-mine") == "s3cr3t-of-mine"


def test_masked_lines_keep_their_columns():
    (problem,) = problems(
        HEAD.replace("{ api_key: abcd }, consent", f"{{ api_key: {SECRET} }}, consnt") + "- to: [crm, alerts]"
    )
    line = problem.text
    assert (line.index("consnt") + 1, "*" * len(SECRET) in line) == (problem.column, True)
