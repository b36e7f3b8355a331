"""A Redis over TLS, with a user who may do what we do and no more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from outside_valkey import OutsideValkey
from system import System, run
from test_outside_redis import ARQ, Worker
from tls import Certificate, TlsGate
from valkeys import started

RULES = """
version: 1
sources: { website: { write_key: key-website } }
"""
PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
(USER,) = re.findall(r"^ACL SETUSER eventrouter (.*)$", PAGE.read_text().replace("SECRET", "s3cret"), re.MULTILINE)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OutsideValkey]:
    """A server with the user `eventrouter`."""
    with ExitStack() as stack:
        running = started(stack, tmp_path, 0)
        with redis.Redis.from_url(running.url) as admin:
            admin.execute_command("ACL", "SETUSER", "eventrouter", *USER.split())
        yield running


def test_events_go_over_tls_as_a_user_with_few_rights(server: OutsideValkey, tmp_path: Path) -> None:
    certificate = Certificate(tmp_path, "localhost")
    with TlsGate(server.port, certificate) as gate:
        url = f"rediss://eventrouter:s3cret@localhost:{gate.port}/0?ssl_ca_certs={certificate.path}"
        with System(tmp_path, RULES, {"EVENTROUTER_REDIS_URL": url}, command="collect") as system, Worker(system):
            for number in range(20):
                system.track("Sold", f"a{number % 3}")
            system.events(20, "Sold")
            assert system.destination("warehouse")["waiting"] == 0
            check = run([*ARQ, "--check", "eventrouter.WorkerSettings"], system.variables(), system.directory)
            assert check.returncode == 0, check.stderr
            told = system.log + (system.directory / "arq.txt").read_text()
        assert "NOPERM" not in told
        assert "Traceback" not in told
        assert "s3cret" not in told


def test_a_certificate_for_another_name_is_refused_unless_the_url_says_otherwise(
    server: OutsideValkey, tmp_path: Path
) -> None:
    certificate = Certificate(tmp_path, "elsewhere")
    with TlsGate(server.port, certificate) as gate:
        url = f"rediss://eventrouter:s3cret@localhost:{gate.port}/0?ssl_ca_certs={certificate.path}"
        system = System(tmp_path, RULES, {"EVENTROUTER_REDIS_URL": url})
        refused = system.run("status")
        assert (refused.returncode, "CERTIFICATE_VERIFY_FAILED" in refused.stderr) == (1, True)
        system.environment["EVENTROUTER_REDIS_URL"] += "&ssl_check_hostname=false"
        assert system.run("status").returncode == 0
