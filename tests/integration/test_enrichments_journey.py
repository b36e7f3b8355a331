"""Enrichments in a whole eventrouter: what they add, what they take away, and what happens when their file is gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
from system import System, until

import geo_kit

Start = Callable[..., System]

RULES = """
version: 1
sources: { website: { write_key: key-website } }
enrichments:
  geo: { database: geo/city.mmdb, drop_ip: true }
"""
IP = "81.2.69.160"
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/129.0.0.0 Safari/537.36"
CONTEXT = {"ip": IP, "userAgent": AGENT, "page": {"url": "https://shop.example/?utm_source=mail&gclid=g1"}}


def make_file(directory: Path) -> None:
    (directory / "geo").mkdir(exist_ok=True)
    geo_kit.city(directory / "geo").rename(directory / "geo" / "city.mmdb")


def kill_worker(system: System) -> None:
    """`kill -9` of the worker; `up` starts another one."""
    assert system._process is not None
    children = psutil.Process(system._process.pid).children()
    (worker,) = [child for child in children if "work" in child.cmdline()]
    worker.kill()


def test_everything_is_added_and_the_address_is_nowhere(start: Start, tmp_path: Path) -> None:
    make_file(tmp_path)
    system = start(RULES)
    system.track("Seen", "anna", context=CONTEXT)
    (event,) = system.events(1, "Seen")
    context = event["context"]
    assert "ip" not in context
    assert ("London", "GB") == (context["location"]["city"], context["location"]["countryCode"])
    assert {"source": "mail"} == context["campaign"]
    assert {"gclid": "g1"} == context["clickIds"]
    assert ("HeadlessChrome", "Linux") == (context["browser"]["name"], context["os"]["name"])
    assert (True, "HeadlessChrome") == (context["isBot"], context["bot"]["name"])
    columns = "context_location_city, context_browser_version, context_click_ids_gclid, context_bot_category"
    (row,) = system.rows(1, f"SELECT {columns} FROM seen")
    assert ("London", "129.0.0", "g1", "browser-automation") == tuple(row.values())
    for file in system.data.glob("warehouse.sqlite3*"):
        assert IP.encode() not in file.read_bytes()


def test_a_file_that_goes_is_told_by_check_and_stops_nothing_that_runs(start: Start, tmp_path: Path) -> None:
    make_file(tmp_path)
    system = start(RULES)
    system.track("Before", "anna", context=CONTEXT)
    system.events(1, "Before")
    (tmp_path / "geo" / "city.mmdb").unlink()
    system.track("After", "anna", context=CONTEXT)
    (event,) = system.events(1, "After")
    assert "London" == event["context"]["location"]["city"]
    checked = system.run("check", str(system.config))
    assert 78 == checked.returncode
    assert f"there is no file {tmp_path / 'geo' / 'city.mmdb'}" in checked.stderr
    assert "= hint: download one" in checked.stderr

    kill_worker(system)
    system.track("Later", "anna", context=CONTEXT)
    (event,) = system.events(1, "Later")
    assert ("ip" in event["context"], "location" in event["context"]) == (False, False)
    assert "a geo database can't be loaded" in system.log


def test_a_first_start_without_the_file_is_refused(tmp_path: Path) -> None:
    refused = System(tmp_path, RULES).run("up", "--port", "1")
    assert (78, True) == (refused.returncode, "there is no file" in refused.stderr)


PLUGIN = """
from eventrouter import Enrichment, hookimpl


class Fragile(Enrichment):
    name = "fragile"

    def patch(self, event):
        if event["event"] == "Bad":
            raise ZeroDivisionError("half way")
        return {"context": {"fragile": True}}


@hookimpl
def register_enrichments():
    return [Fragile]
"""


def test_a_failure_costs_one_event_its_addition_and_is_counted(start: Start, tmp_path: Path) -> None:
    site = tmp_path / "site"
    info = site / "fragile-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "fragile.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fragile\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[eventrouter]\nfragile = fragile\n")
    rules = RULES.partition("enrichments:")[0]
    system = start(rules, {"PYTHONPATH": str(site)})
    system.send(
        *({"type": "track", "event": name, "anonymousId": "anna", "messageId": name} for name in ("Good", "Bad"))
    )
    assert [{"fragile": True}] == [event.get("context") for event in system.events(1, "Good")]
    assert [{}] == [event.get("context") for event in system.events(1, "Bad")]
    system.until_count(1, "enrichments_failed_total", enrichment="fragile")
    assert "events go on without an enrichment" in system.log
    assert "ZeroDivisionError: half way" in system.log

    system.stop()
    system.config.write_text(rules + "enrichments: { fragile: false }\n")
    system.start()
    system.track("Good", "bert", messageId="again")
    events = until(lambda: len(found := system.events(2, "Good")) == 2 and found)
    assert {} == events[1].get("context")
