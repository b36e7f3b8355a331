"""hookspecs.py: the whole plugin surface."""

from __future__ import annotations

import pluggy

from eventrouter import hookspecs


def test_these_are_all_the_hooks() -> None:
    manager = pluggy.PluginManager("eventrouter")
    manager.add_hookspecs(hookspecs)
    assert sorted(name for name in vars(manager.hook) if not name.startswith("_")) == [
        "attempt_finished",
        "event_dropped",
        "register_commands",
        "register_destinations",
        "register_enrichments",
        "register_template_filters",
        "register_warehouses",
    ]


def test_every_hook_says_what_it_is_for() -> None:
    hooks = [value for value in vars(hookspecs).values() if hasattr(value, "eventrouter_spec")]
    assert len(hooks) == 7
    assert [hook.__name__ for hook in hooks if not hook.__doc__] == []
