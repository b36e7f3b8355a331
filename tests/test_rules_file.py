"""The rules file while a process runs: what is good is taken over, what is not leaves the last good one in use."""

import asyncio
import contextlib

import pytest
from structlog.testing import capture_logs

from eventrouter import logs, rules_file
from eventrouter.config import load
from eventrouter.errors import ConfigError
from eventrouter.kept_rules import KeptRules
from eventrouter.masking import Mask
from eventrouter.rules_file import RulesFile, last_good
from routes_kit import HEAD, PLUGINS, plugins_with_a_broken_one

RULES = HEAD + "  - { name: pages, to: crm, when: type == 'page' }\n"
TEST = "tests: [{ name: a page, given: { type: page }, expect: { crm: {} } }]\n"


class Place:
    """A rules file that is followed, and what was taken over."""

    def __init__(self, folder) -> None:
        self.path = folder / "routes.yaml"
        self.path.write_text(RULES)
        self.kept = KeptRules(folder / "data", self.path)
        self.file = RulesFile(load(self.path, PLUGINS, {}), PLUGINS, {}, self.kept)
        self.taken: list[str] = []

    async def take(self, config) -> None:
        self.taken.append(config.version)

    async def follow_once(self):
        """A process begins with the rules, and ends."""
        following = asyncio.create_task(self.file.follow(self.take))
        async with asyncio.timeout(5):
            while not self.kept.texts():
                await asyncio.sleep(0.01)
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following

    async def look(self, text, name="routes.yaml"):
        """What is told after a look at the file with this text."""
        if text is not None:
            self.path.with_name(name).write_text(text)
        with capture_logs() as told:
            await self.file.look(self.take)
        return [(one["log_level"], one["event"]) for one in told]


@pytest.fixture(autouse=True)
def _hide_nothing_afterwards():
    yield
    logs._hidden.clear()
    logs._mask_hidden = Mask()


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


async def test_a_good_change_is_taken_over(place):
    before = place.file.config.version
    assert await place.look(RULES + TEST) == [("info", "the rules were replaced")]
    assert place.taken == [place.file.config.version] != [before]
    assert place.file.problem == ""


async def test_what_means_the_same_is_not_taken_over_again(place):
    assert await place.look(RULES) == []
    assert place.taken == []


async def test_a_broken_file_leaves_the_last_good_one_in_use_and_is_told_once(place):
    before = place.file.config
    assert await place.look(RULES + "rotes: []\n") == [("error", "the rules file can't be used; the last good one is")]
    assert await place.look(None) == []
    assert (place.file.config, place.taken) == (before, [])
    assert "the file has no key `rotes`" in place.file.problem
    assert await place.look(RULES) == [("info", "the rules file is again what is in use")]
    assert place.file.problem == ""


@pytest.mark.parametrize("name", ["routes.yaml", "routes_test.yaml"])
async def test_a_test_that_fails_leaves_the_last_good_one_in_use(place, name):
    test = TEST.replace("page }", "group, groupId: g }")
    text = RULES.replace("'page'", "'screen'") + test
    if name != "routes.yaml":
        place.path.write_text(RULES.replace("'page'", "'screen'"))
        text = test
    await place.look(text, name)
    assert place.taken == []
    assert "the test “a page” fails: crm: expected a payload, got nothing (`no_route`)" in place.file.problem
    assert f"{name}:" in place.file.problem


async def test_what_is_connected_to_is_taken_over_at_the_next_start(place):
    told = await place.look(RULES + "state: { url: 'sqlite:////tmp/other.sqlite3' }\n")
    assert told == [
        ("warning", "a change of the rules file takes effect at the next start"),
        ("info", "the rules were replaced"),
    ]


async def test_a_change_that_cannot_be_taken_over_is_a_problem(place):
    async def fail(config):
        raise rules_file.EventRouterError("no")

    place.path.write_text(RULES + TEST)
    await place.file.look(fail)
    assert place.file.problem == "no"


async def test_files_are_followed_also_those_that_are_included(place, monkeypatch):
    monkeypatch.setattr(rules_file, "LOOK_SECONDS", 0.01)
    following = asyncio.create_task(place.file.follow(place.take))

    async def taken(number):
        async with asyncio.timeout(5):
            while len(place.taken) < number:
                await asyncio.sleep(0.01)

    other = place.path.with_name("more.yaml")
    other.write_text("tests: []\n")
    place.path.write_text(RULES.replace("version: 1\n", "version: 1\ninclude: more.yaml\n"))
    await taken(1)
    other.write_text("tests: []\n# more\n")
    await taken(2)
    other.write_text("tests: {\n")
    async with asyncio.timeout(5):
        while not place.file.problem:
            await asyncio.sleep(0.01)
    other.replace(other.with_suffix(".old"))
    place.path.write_text(RULES)
    await taken(3)
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following


async def test_an_error_of_any_kind_is_a_problem_and_ends_nothing(place, monkeypatch):
    async def fail(config):
        raise TypeError("of a plugin")

    place.path.write_text(RULES + TEST)
    await place.file.look(fail)
    assert place.file.problem == "TypeError: of a plugin"
    assert await place.look(RULES + TEST + "# more\n") == [("info", "the rules were replaced")]


async def test_a_file_that_is_being_written_is_waited_for(place, monkeypatch):
    monkeypatch.setattr(rules_file, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(rules_file, "QUIET_SECONDS", 0.2)
    following = asyncio.create_task(place.file.follow(place.take))
    whole = RULES + "  - { name: more, to: crm }\n"
    for end in range(len(RULES) - 30, len(whole) + 1, 10):
        place.path.write_text(whole[:end])
        await asyncio.sleep(0.05)
    place.path.write_text(whole)
    async with asyncio.timeout(5):
        while not place.taken:
            await asyncio.sleep(0.01)
    assert ([one.name for one in place.file.config.routes], len(place.taken)) == (["pages", "more"], 1)
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following


@pytest.mark.parametrize("include", ["new.yaml", "teams/*/rules.yaml"])
async def test_what_is_wrong_may_be_put_right_in_an_included_file(place, monkeypatch, include):
    monkeypatch.setattr(rules_file, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(rules_file, "QUIET_SECONDS", 0.01)
    following = asyncio.create_task(place.file.follow(place.take))
    other = place.path.parent / include.replace("*", "a")
    other.parent.mkdir(parents=True, exist_ok=True)
    other.write_text("routes: [{ to: crn }]\n")
    place.path.write_text(RULES.replace("version: 1\n", f'version: 1\ninclude: "{include}"\n'))
    async with asyncio.timeout(5):
        while not place.file.problem:
            await asyncio.sleep(0.01)
        other.write_text("routes: [{ to: alerts, when: userId }]\n")
        while not place.taken:
            await asyncio.sleep(0.01)
        if "*" in include:
            more = other.parents[1] / "b" / "rules.yaml"
            more.parent.mkdir()
            await asyncio.sleep(0.1)
            more.write_text("routes: [{ name: of b, to: alerts, when: event }]\n")
            while len(place.taken) < 2:
                await asyncio.sleep(0.01)
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following


# a start


def opened(place, **variables):
    """The rules file as a process opens it at its start, and what is told."""
    with capture_logs() as told:
        file = RulesFile.open(place.path, PLUGINS, variables, place.kept)
    return file, [(one["log_level"], one["event"]) for one in told]


async def test_what_was_in_use_is_used_at_a_start_while_the_file_is_broken(place):
    await place.follow_once()
    version = place.file.config.version
    place.path.write_text("routes: [\n")
    file, told = opened(place)
    assert file.config.version == version
    assert "not valid YAML" in file.problem
    assert told == [("error", "the rules file can't be used; the last good one is")]
    place.file = file
    assert await place.look(RULES) == [("info", "the rules file is again what is in use")]
    assert (place.file.problem, place.taken) == ("", [])


async def test_what_was_taken_over_and_what_it_includes_is_kept_too(place):
    place.path.with_name("more.yaml").write_text("routes: [{ name: more, to: alerts }]\n")
    await place.look(RULES.replace("version: 1\n", "version: 1\ninclude: more.yaml\n"))
    place.path.with_name("more.yaml").unlink()
    file, _ = opened(place)
    assert [route.name for route in file.config.routes] == ["pages", "more"]
    assert "there is no file `more.yaml`" in file.problem
    place.file = file
    place.path.with_name("more.yaml").write_text("routes: []\n")
    await place.look(None)
    assert place.taken[1:] == [place.file.config.version]


async def test_the_last_good_rules_are_those_that_were_kept(place):
    assert last_good(place.path, PLUGINS, {}, place.kept) is None
    await place.follow_once()
    place.path.write_text("version: 7\n")
    found = last_good(place.path, PLUGINS, {}, place.kept)
    assert found is not None
    assert found.version == place.file.config.version


async def test_a_test_that_fails_at_a_start_is_as_a_broken_file(place):
    place.path.with_name("routes_test.yaml").write_text(TEST)
    await place.look(RULES + "# good\n")
    version = place.file.config.version
    place.path.write_text(RULES.replace("'page'", "'screen'"))
    file, _ = opened(place)
    assert file.config.version == version
    assert file.problem.startswith(
        f"{place.path.with_name('routes_test.yaml')}:1: the test “a page” fails: crm: expected"
    )


def test_a_first_start_needs_a_good_file_whose_tests_pass(place):
    place.path.write_text(RULES.replace("'page'", "'screen'") + TEST)
    with pytest.raises(ConfigError, match="the test “a page” fails"):
        opened(place)
    place.path.write_text("routes: [\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        opened(place)


async def test_kept_rules_that_cannot_be_used_either_are_told_and_the_start_fails(place):
    place.path.write_text(RULES.replace("dev-app", "'${KEY}'"))
    place.file, _ = opened(place, KEY="k")
    await place.follow_once()
    place.path.write_text("routes: [\n")
    assert opened(place, KEY="other")[0].config.sources["app"].write_keys == ("other",)
    with pytest.raises(ConfigError, match="not valid YAML"), capture_logs() as told:
        RulesFile.open(place.path, PLUGINS, {}, place.kept)
    assert [one["event"] for one in told] == ["the last good rules can't be used either"]


def test_a_start_tells_of_plugins_that_cannot_be_imported(place):
    with capture_logs() as told:
        RulesFile.open(place.path, plugins_with_a_broken_one(), {}, place.kept)
    assert [(one["event"], one["reason"]) for one in told] == [
        ("a plugin can't be used", "plugin 'late' can't be imported")
    ]


async def test_what_is_saved_while_a_process_starts_is_noticed(place, monkeypatch):
    place.kept.path.parent.mkdir()  # which changes the rules' folder
    read_rules = rules_file.read_rules

    def read_and_save(*arguments, **options):
        monkeypatch.undo()
        try:
            return read_rules(*arguments, **options)
        finally:
            place.path.write_text(RULES + TEST)

    monkeypatch.setattr(rules_file, "read_rules", read_and_save)
    file, _ = opened(place)
    monkeypatch.setattr(rules_file, "LOOK_SECONDS", 0.01)
    following = asyncio.create_task(file.follow(place.take))
    async with asyncio.timeout(5):
        while not place.taken:
            await asyncio.sleep(0.01)
    following.cancel()


async def test_rules_that_cannot_be_kept_are_used_all_the_same(place):
    place.kept.path.parent.write_text("a file in the place of a folder")
    assert await place.look(RULES + TEST) == [
        ("info", "the rules were replaced"),
        ("warning", "the rules can't be kept: a start needs a good rules file"),
    ]
    assert place.file.problem == ""


# secrets


async def test_a_problem_shows_nothing_that_variables_brought_into_the_new_rules(place, monkeypatch):
    async def fail(config):
        raise TypeError("it is a-secret-from-outside and another-one-of-the-tests")

    place.file._environ = {"SALT": "a-secret-from-outside", "NAME": "another-one-of-the-tests"}
    place.path.with_name("routes_test.yaml").write_text(TEST.replace("a page", "'${NAME}'"))
    place.path.write_text(RULES + "vars: { salt: '${SALT}' }\n")
    with capture_logs() as told:
        await place.file.look(fail)
    assert place.file.problem == "TypeError: it is ********** and **********"
    assert told[-1]["problem"] == place.file.problem
