"""The first-party plugin comes and goes with pip: a fresh environment, real entry points, nothing from the network."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[2] / "plugins" / "eventrouter-ga4"

LIST = """
import json
from eventrouter.plugins import Plugins
plugins = Plugins.load()
rows = [row for row in plugins.list() if row["kind"] == "destination"]
print(json.dumps({row["name"]: [row["package"], row["version"]] for row in rows}))
"""


class Environment:
    """A virtual environment that shares the installed packages of this one, but not the plugin."""

    def __init__(self, path: Path) -> None:
        venv.create(path, with_pip=True)
        self.python = path / "bin" / "python"
        self._env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}
        self.pip("uninstall", "--yes", "setuptools")  # Python 3.11 brings one that is too old for the plugin's metadata
        target = Path(self.run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        for key in ("purelib", "platlib"):
            for package in Path(sysconfig.get_path(key)).iterdir():
                own = (target / package.name).exists() or package.name.startswith("pip")
                if not own and "eventrouter_ga4" not in package.name:
                    (target / package.name).symlink_to(package)

    def run(self, *arguments: str) -> str:
        done = subprocess.run([self.python, *arguments], env=self._env, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def pip(self, *arguments: str) -> str:
        return self.run("-m", "pip", "--disable-pip-version-check", *arguments)

    def destinations(self) -> dict[str, list[str]]:
        return json.loads(self.run("-c", LIST))


@pytest.fixture
def environment(tmp_path):
    return Environment(tmp_path / "venv")


def test_the_plugin_is_seen_once_it_is_installed_and_gone_once_it_is_not(environment, tmp_path):
    leftovers = shutil.ignore_patterns("*.egg-info", "build", "__pycache__")
    source = shutil.copytree(PLUGIN, tmp_path / "source", ignore=leftovers)
    before = environment.destinations()
    assert "ga4" not in before
    assert "webhook" in before

    environment.pip("install", "--no-index", "--no-deps", "--no-build-isolation", str(source))
    assert environment.destinations() == {**before, "ga4": ["eventrouter-ga4", "0.1.0"]}
    shown = environment.run("-c", "from eventrouter_ga4 import Ga4; print(Ga4.Options.model_json_schema()['required'])")
    assert shown.strip() == "['measurement_id', 'api_secret']"

    environment.pip("uninstall", "--yes", "eventrouter-ga4")
    assert environment.destinations() == before


def test_the_environment_of_the_tests_can_build_packages():
    import setuptools

    major = int(setuptools.__version__.split(".")[0])
    assert major >= 77, f"pip install 'setuptools>=77': {sys.prefix} has {setuptools.__version__}"
