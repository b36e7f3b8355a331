"""`eventrouter collect`: a collector by itself."""

from __future__ import annotations

import json
import socket
import urllib.request

import pytest

from cli_kit import Place, wait_until
from eventrouter import child
from eventrouter.app import EventRouter
from eventrouter.cli.collect import facts, inherited_listener
from eventrouter.plugins import Plugins
from eventrouter.settings import Settings


@pytest.fixture
def place(tmp_path, valkey):
    place = Place(tmp_path, EVENTROUTER_REDIS_URL=valkey)
    yield place
    place.close()


def test_it_listens_until_it_is_told_to_stop(place, redis):
    (place.path / ".eventrouter").mkdir()
    process = place.start("collect")
    wait_until(lambda: '"ready"' in place.err)
    assert "is new" not in place.err
    with urllib.request.urlopen(f"{place.url}/ready", timeout=5) as answer:
        assert answer.status == 200
    assert place.stop(process) == 0


def test_it_tells_where_its_spool_is_and_that_the_directory_is_new(place, redis):
    process = place.start("collect", "--data-dir", "mistyped")
    wait_until(lambda: '"ready"' in place.err)
    told = {line["event"]: line for line in map(json.loads, place.err.splitlines())}
    assert told["ready"]["spool"] == str(place.path / "mistyped" / "spool")
    assert told["the data directory is new"]["directory"] == str(place.path / "mistyped")
    assert place.stop(process) == 0


def test_a_port_in_use_is_told(place):
    with socket.create_server(("127.0.0.1", place.port)):
        result = place.run("collect")
    assert (result.returncode, f"port {place.port} of 127.0.0.1 is in use" in result.stderr) == (1, True)


def test_a_bad_configuration_is_told(place):
    (place.path / "routes.yaml").write_text("version: 1\nsources: 3\n")
    result = place.run("collect")
    assert (result.returncode, "routes.yaml:2:" in result.stderr) == (78, True)


async def test_up_learns_what_to_show_without_a_password(tmp_path):
    (tmp_path / "routes.yaml").write_text(
        "version: 1\nsources: {off: {write_key: a, enabled: false}, web: {write_key: [b, c]}}\n"
        "warehouse: {url: 'postgresql://me:hunter2@host/db'}\n"
    )
    router = EventRouter.load(Settings(config=tmp_path / "routes.yaml"), plugins=Plugins.load())
    assert facts(router) == {"source": "web", "write_key": "b", "warehouse": "postgresql://**********@host/db"}
    router.rules_file.problem = "routes.yaml:3:1: wrong"
    assert facts(router)["problem"] == "routes.yaml:3:1: wrong"
    await router.close()


def test_a_listening_socket_is_inherited_from_up_only(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv(child.LISTENER_VARIABLE, str(server.fileno()))
        assert inherited_listener() is None
        monkeypatch.setenv(child.LISTENER_VARIABLE, str(server.fileno()))
        monkeypatch.setattr(child, "is_attached", lambda: True)
        found = inherited_listener()
        assert (found.fileno(), found.getblocking()) == (server.fileno(), False)
        found.detach()
