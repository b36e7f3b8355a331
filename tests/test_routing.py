"""routing.py: the parts of a worker's routing, made of the rules."""

from __future__ import annotations

from pathlib import Path

from eventrouter.config import loads
from eventrouter.plugins import Plugins
from eventrouter.route import Router
from eventrouter.routing import make_identity, make_rules

RULES = """
version: 1
sources: { web: { write_key: k } }
dedup: { window: 1h, max_bytes: 64MB }
destinations:
  crm: { plugin: stdout, backlog: 7 }
"""


def test_rules_carry_what_the_router_needs_to_know():
    plugins = Plugins.load()
    config = loads(RULES, plugins, {})
    router = Router(config, plugins.template_filters)
    rules = make_rules(config, router, 10**6)
    assert (config.version, {"crm": 7}, 3600.0, 10**6) == (
        rules.version,
        rules.backlogs,
        rules.window,
        rules.dedup_bytes,
    )
    assert 64 * 1024**2 == make_rules(config, router, 10**9).dedup_bytes


def test_identity_keeps_its_state_in_the_data_directory_unless_told_otherwise():
    plugins = Plugins.load()
    [identity] = make_identity(loads(RULES, plugins, {}), plugins, Path("/somewhere"))
    assert ("identity", "sqlite:////somewhere/state.sqlite3") == (identity.name, str(identity.options.url))
    elsewhere = RULES + "state: { url: postgresql://host/state }\n"
    [identity] = make_identity(loads(elsewhere, plugins, {}), plugins, Path("/somewhere"))
    assert "postgresql://host/state" == str(identity.options.url)
