import sys
import textwrap
from types import SimpleNamespace

import pytest

from eventrouter.destination import Destination
from eventrouter.enrichment import Enrichment
from eventrouter.hookspecs import hookimpl
from eventrouter.plugins import PluginError, Plugins
from eventrouter.warehouse import Warehouse


class Acme(Destination):
    """Tells Acme.

    More words.
    """

    name = "acme"

    async def deliver(self, messages):
        return None


class Lake(Warehouse):
    """A lake."""

    name = "lake"
    schemes = ("lake", "pond")

    async def deliver(self, messages):
        return None


def enrichment(called: str) -> type[Enrichment]:
    async def enrich(self, shard, events):
        return []

    return type("Step", (Enrichment,), {"name": called, "enrich": enrich, "__doc__": "A step."})


def plugin(name="some_plugin", **hooks):
    """A plugin object whose hooks return what is given."""
    made = SimpleNamespace(__name__=name)
    for hook, value in hooks.items():
        setattr(made, hook, hookimpl(lambda value=value: value, specname=hook))
    return made


def shout(value):
    """Louder."""
    return f"{value}!"


def test_plugins_give_what_they_register():
    plugins = Plugins(
        plugin(
            register_destinations=[Acme],
            register_warehouses=[Lake],
            register_enrichments=[enrichment("geo"), enrichment("identity")],
            register_template_filters={"shout": shout},
        )
    )
    assert plugins.destinations == {"acme": Acme}
    assert plugins.warehouses == {"lake": Lake, "pond": Lake}
    assert [step.name for step in plugins.enrichments] == ["identity", "geo"]
    assert plugins.template_filters == {"shout": shout}
    assert [(row["kind"], row["name"], row["summary"]) for row in plugins.list()] == [
        ("destination", "acme", "Tells Acme."),
        ("enrichment", "geo", "A step."),
        ("enrichment", "identity", "A step."),
        ("filter", "shout", "Louder."),
        ("warehouse", "lake", "A lake."),
        ("warehouse", "pond", "A lake."),
    ]


def test_without_plugins_there_is_nothing():
    assert Plugins().list() == []


class NoDeliver(Destination):
    name = "lazy"


class BadName(Acme):
    name = "Has Space"


class NoStep(Enrichment):
    name = "lazy"


class TwoSteps(Enrichment):
    name = "eager"

    def patch(self, event):
        return None

    async def enrich(self, shard, events):
        return []


class BadOptions(Acme):
    name = "bad"
    Options = dict


@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        ({"register_destinations": [Acme, Acme]}, "registers the destination 'acme' twice"),
        ({"register_destinations": [dict]}, "not a subclass of Destination"),
        ({"register_destinations": [Acme(Destination.Options())]}, "not a subclass of Destination"),
        ({"register_destinations": [NoDeliver]}, "does not define deliver()"),
        ({"register_destinations": [BadName]}, "has the name 'Has Space'"),
        ({"register_destinations": [BadOptions]}, "not a pydantic model"),
        ({"register_destinations": None}, "failed in register_destinations(): TypeError"),
        ({"register_enrichments": [Acme]}, "not a subclass of Enrichment"),
        ({"register_enrichments": [NoStep]}, "does not define patch() or enrich()"),
        ({"register_enrichments": [TwoSteps]}, "defines both patch() and enrich()"),
        ({"register_warehouses": [type("NoScheme", (Lake,), {"schemes": ()})]}, "has no `schemes`"),
        ({"register_template_filters": {"upper": shout}}, "has the name of a built-in"),
        ({"register_template_filters": {"not a name": shout}}, "is not a function with a name"),
        ({"register_template_filters": {"x": 1}}, "is not a function with a name"),
    ],
)
def test_a_wrong_plugin_is_named(hooks, message):
    with pytest.raises(PluginError) as caught:
        Plugins(plugin("wrong_one", **hooks))
    assert "'wrong_one'" in str(caught.value)
    assert message in str(caught.value)
    assert caught.value.hint


def test_one_name_in_two_plugins_names_both():
    with pytest.raises(PluginError, match=r"'two' registers the destination 'acme' as does plugin 'one'"):
        Plugins(plugin("one", register_destinations=[Acme]), plugin("two", register_destinations=[Acme]))


def test_a_hook_with_the_wrong_signature_is_named():
    wrong = SimpleNamespace(__name__="wrong_one")
    wrong.register_destinations = hookimpl(lambda config: [], specname="register_destinations")
    with pytest.raises(PluginError, match="'wrong_one' does not fit the hooks"):
        Plugins(wrong)


def test_a_hook_that_does_not_exist_is_named():
    with pytest.raises(PluginError, match=r"'wrong_one' does not fit the hooks.*register_nothing"):
        Plugins(plugin("wrong_one", register_nothing=[]))


def test_a_class_in_place_of_an_object_is_named():
    with pytest.raises(PluginError, match="is a class"):
        Plugins(Acme)


def test_a_plugin_that_raises_is_named():
    def explode():
        raise RuntimeError("boom")

    wrong = SimpleNamespace(
        __name__="wrong_one", register_destinations=hookimpl(explode, specname="register_destinations")
    )
    with pytest.raises(PluginError, match=r"failed in register_destinations.*boom"):
        Plugins(wrong)


@pytest.fixture
def only_installed(tmp_path, monkeypatch):
    """Makes a path in which packages are "installed", the only one where entry points are looked for."""

    def install(package: str, source: str, module: str = "") -> None:
        (tmp_path / f"{package}.py").write_text(textwrap.dedent(source))
        info = tmp_path / f"{package}-1.2.3.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2.3\n")
        (info / "entry_points.txt").write_text(f"[eventrouter]\n{package} = {module or package}\n")

    kept = [path for path in sys.path if "site-packages" not in path and "src" not in path]
    monkeypatch.setattr(sys, "path", [str(tmp_path), *kept])
    return install


def test_installed_plugins_are_loaded_with_their_package(only_installed):
    only_installed(
        "acme_for_test",
        """
        from eventrouter.destination import Destination
        from eventrouter.hookspecs import hookimpl

        class Acme(Destination):
            "Tells Acme."
            name = "acme"
            async def deliver(self, messages): return None

        @hookimpl
        def register_destinations():
            return [Acme]
        """,
    )
    assert Plugins.load().list() == [
        {
            "name": "acme",
            "kind": "destination",
            "package": "acme_for_test",
            "version": "1.2.3",
            "summary": "Tells Acme.",
        }
    ]


def test_an_installed_plugin_that_cannot_be_imported_is_listed_with_its_package_and_what_to_do(only_installed):
    only_installed("broken_for_test", "import nothing_of_this_name")
    plugins = Plugins.load()
    [broken] = plugins.broken.values()
    assert "'broken_for_test' of the package broken_for_test 1.2.3 can't be imported" in str(broken)
    assert "nothing_of_this_name" in str(broken)
    assert "pip uninstall broken_for_test" in broken.hint
    row = {"name": "broken_for_test", "kind": "broken", "package": "broken_for_test", "version": "1.2.3"}
    assert plugins.list() == [row | {"summary": str(broken)}]


def test_a_built_in_that_cannot_be_imported_is_an_error(only_installed):
    only_installed("eventrouter", "", module="nothing_of_this_name")
    with pytest.raises(PluginError, match="can't be imported"):
        Plugins.load()
