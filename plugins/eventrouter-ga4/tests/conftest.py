"""Google's stand-in for the tests of the plugin; the plugin's source is imported whether or not it is installed."""

import sys
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from ga4_google import Google


@pytest.fixture(scope="module")
def server():
    with HTTPServer(host="127.0.0.1") as server:
        yield server


@pytest.fixture
def google(server):
    server.clear()
    return Google(server)


@pytest.fixture(scope="module")
def shared_google(server):
    """One for all examples of a property."""
    return Google(server)
