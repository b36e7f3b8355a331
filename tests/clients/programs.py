"""The programs that the client tests drive: Node.js and Chromium. Run as a script, it installs a missing Chromium."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
PACKAGES = HERE / "node_modules"
"""The npm packages that `make test` installs here."""

CHROMIUMS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)

OPTIONS = (
    # Names below .test are this machine; no other name is found, so nothing leaves it.
    "--host-resolver-rules=MAP *.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)
"""What a Chromium for tests is started with."""


@cache
def chromium() -> Path:
    """The Chromium or Chrome of this machine; `CHROMIUM` in the environment names another."""
    for name in (os.environ.get("CHROMIUM", ""), *CHROMIUMS):
        if name and (found := shutil.which(name)):
            return Path(found)
    raise FileNotFoundError(
        "The tests need Chromium or Chrome, and there is none. Install it (Debian: apt-get install chromium; macOS: "
        "brew install --cask google-chrome), or say where it is: make test CHROMIUM=/path/to/it"
    )


def install_chromium() -> None:
    """Installs Debian's Chromium where there is none: as root, on a system that has it. Else leaves all as it is."""
    try:
        chromium()
    except FileNotFoundError:
        if os.geteuid() != 0 or not shutil.which("apt-get"):
            raise
        print("Installing Chromium for the tests (once) …", flush=True)
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in ("apt-get update", "apt-get install --yes --no-install-recommends chromium"):
            done = subprocess.run([*command.split(), "-qq"], env=quiet, capture_output=True, text=True)
            if done.returncode:
                print(done.stdout, done.stderr, file=sys.stderr)
        chromium()


def path() -> str:
    """The PATH for Node.js: that of the virtual environment, where there is one, before the system's."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def node(script: str, *arguments: str, environment: dict[str, str] | None = None, seconds: float = 60) -> str:
    """Runs a JavaScript module, which can import the packages that are installed here; returns what it printed.

    `script` is source text; it sees `arguments` in `process.argv` from 2 on. An exit code that isn't 0 is an error.
    """
    done = subprocess.run(
        ["node", "--input-type=module", "-", *arguments],
        input=script,
        env={**os.environ, "PATH": path(), "NODE_NO_WARNINGS": "1", **(environment or {})},
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout


if __name__ == "__main__":
    try:
        install_chromium()
    except FileNotFoundError as error:
        sys.exit(str(error))
