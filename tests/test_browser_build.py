"""The browser's client: its own tests pass, and the built file that is shipped is what its sources give."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from eventrouter.config_model import CookieConfig

ROOT = Path(__file__).parent.parent
BROWSER = ROOT / "browser"
SHIPPED = ROOT / "src" / "eventrouter" / "browser"
GUIDE = (ROOT / "docs" / "browser.md").read_text("utf-8")
SIZE = len(gzip.compress((SHIPPED / "eventrouter.js").read_bytes(), mtime=0))


def run(*command: str, **more: str) -> str:
    """Runs a command in `browser/` to its end; returns what it printed. Node.js may be the virtual environment's."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = {**os.environ, "PATH": path, **more}
    done = subprocess.run(command, cwd=BROWSER, env=environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def _packages() -> None:
    """What `make test` installs before; here for a bare pytest."""
    if not (BROWSER / "node_modules" / "esbuild").is_dir():
        run("npm", "ci", "--no-progress", "--loglevel=error")


def test_its_own_tests_pass() -> None:
    printed = run("node", "--test", "--test-reporter=tap", *sorted(map(str, (BROWSER / "test").glob("*.test.js"))))
    counts = dict(re.findall(r"^# (tests|pass|fail|skipped|todo) (\d+)$", printed, re.MULTILINE))
    assert int(counts["tests"]) == int(counts["pass"]) > 30
    print(f"{counts['pass']} passed, {counts['fail']} failed")


def test_the_shipped_file_is_what_its_sources_give(tmp_path: Path) -> None:
    run("node", "build.mjs", str(tmp_path))
    built = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    shipped = {file.name: file.read_bytes() for file in SHIPPED.iterdir()}
    assert shipped == built, "run `npm run build` in browser/"


def test_it_is_small_and_the_page_says_how_small() -> None:
    assert SIZE < 15_000
    said = re.search(r"is ([\d.]+) KB gzipped", GUIDE)
    assert said is not None
    assert said[1] == f"{SIZE / 1000:.1f}"


def test_it_names_what_is_in_it_and_the_licences_are_beside_it() -> None:
    banner = (SHIPPED / "eventrouter.js").read_text("utf-8").splitlines()[0]
    licences = (SHIPPED / "eventrouter.js.LICENSES.txt").read_text("utf-8")
    parts = re.findall(r"@analytics/[\w-]+ \d[\d.]+\d", banner)
    assert "@analytics/core 0.13.2" in parts
    for part in parts:
        assert part in licences
    assert "Apache-2.0" in banner
    assert "MIT License" in licences


def test_the_version_is_the_packages() -> None:
    version = json.loads((BROWSER / "package.json").read_text("utf-8"))["version"]
    assert f"VERSION = '{version}'" in (BROWSER / "src" / "version.js").read_text("utf-8")


def test_the_cookie_is_the_collectors() -> None:
    assert f"cookie: '{CookieConfig().name}'" in (BROWSER / "src" / "index.js").read_text("utf-8")


def test_versions_are_pinned_and_the_lock_names_no_registry() -> None:
    package = json.loads((BROWSER / "package.json").read_text("utf-8"))
    assert all(re.fullmatch(r"[\d.]+", version) for version in package["devDependencies"].values())
    lock = (BROWSER / "package-lock.json").read_text("utf-8")
    assert '"resolved"' not in lock
    assert '"integrity"' in lock


def test_no_file_is_a_hall() -> None:
    for file in [*(BROWSER / "src").iterdir(), *(BROWSER / "test").iterdir(), BROWSER / "build.mjs"]:
        assert len(file.read_text("utf-8").splitlines()) <= 320, file
