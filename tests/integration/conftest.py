"""What the integration tests share: a whole eventrouter, and a server that stands for everything it sends to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from http_sink import Sink
from system import System

PLAIN = """
version: 1
sources:
  website: { write_key: key-website }
  app: { write_keys: [key-app, key-app-2] }
  closed: { write_key: key-closed, enabled: false }
"""
"""Rules without a destination: events go to the warehouse alone."""


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    """A server that records and answers; each test uses paths of its own."""
    with Sink() as server:
        yield server


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A running system without destinations, shared by all tests of this process: each uses ids of its own."""
    with System(tmp_path_factory.mktemp("plain"), PLAIN) as running:
        yield running


@pytest.fixture(scope="module")
def system(request: pytest.FixtureRequest, sink: Sink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A running system with the module's `RULES`, in which `${SINK}` is the sink's address."""
    environment = {"SINK": sink.url, **getattr(request.module, "ENVIRONMENT", {})}
    with System(tmp_path_factory.mktemp("system"), request.module.RULES, environment) as running:
        yield running


Start = Callable[..., System]


@pytest.fixture
def start(tmp_path: Path, sink: Sink) -> Iterator[Start]:
    """Starts systems that end with the test: `start(rules, NAME=value, …)`."""
    with ExitStack() as stack:

        def begin(rules: str, environment: Mapping[str, str] | None = None) -> System:
            one = System(tmp_path, rules, {"SINK": sink.url, **(environment or {})})
            return stack.enter_context(one)

        yield begin
