"""worker_group.py: what a group may be called, and what to do when nobody serves it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from eventrouter.config import loads
from eventrouter.plugins import Plugins
from eventrouter.worker_group import is_group_name, start_hint


@pytest.mark.parametrize(
    ("name", "good"),
    [
        *((good, True) for good in ("slow", "a-b_2", "x" * 32)),
        *((bad, False) for bad in ("x" * 33, "", "2", "A", "a b", "a:b", "slow\n")),
    ],
)
def test_a_name_is_short_and_plain(name, good):
    assert good == is_group_name(name)


def test_the_command_that_starts_a_worker_is_told():
    assert "`eventrouter work --group slow`" in start_hint("slow")
    assert "`eventrouter work`" in start_hint("")


def test_the_example_of_the_documentation_is_good():
    page = (Path(__file__).parent.parent / "docs" / "operations.md").read_text("utf-8")
    [example] = [text for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "worker_group" in text]
    assert loads(example, Plugins.load(), {}).worker_groups == ["slow"]
