"""requirements.lock pins all that is installed, and nothing of the machine that wrote it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINES = (ROOT / "requirements.lock").read_text().splitlines()


def plain(name: str) -> str:
    """The name as package registries compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_each_line_is_a_package_with_one_version():
    assert [line for line in LINES if not re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; [^/@]+)?", line)] == []


def test_every_dependency_of_every_package_is_pinned():
    pinned = {line.split("==")[0] for line in LINES}
    needed = set()
    for file in (ROOT / "pyproject.toml", *ROOT.glob("plugins/*/pyproject.toml")):
        project = tomllib.loads(file.read_text())["project"]
        extras = project.get("optional-dependencies", {}).values()
        for requirement in (*project["dependencies"], *(each for extra in extras for each in extra)):
            needed.add(plain(re.match(r"[\w.-]+", requirement)[0]))
    assert needed - pinned - {"eventrouter"} == set()
