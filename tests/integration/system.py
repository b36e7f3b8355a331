"""A whole eventrouter for tests: `eventrouter up` as a user runs it, and the user's view of it from outside."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from command_kit import COMMAND, run_command

PATIENCE = 40.0
"""Seconds until something that must come counts as missing: generous, for a machine with other things to do."""

T = TypeVar("T")


class Reply(NamedTuple):
    """What the collector answered; `headers` have lower-case names."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str]:
        """Status and code; every error has a message, too."""
        found = self.json
        assert found["success"] is False
        assert found["message"]
        assert self.headers["content-type"] == "application/json"
        return self.status, found["code"]


class System:
    """An `eventrouter up` on a free port, with rules and a data directory of its own. `with System(…) as system:`.

    `environment` adds to the variables of its processes; `rules` is the text of routes.yaml.
    """

    key = "key-website"
    """The write key that is used when a test names no other."""

    def __init__(
        self, directory: Path, rules: str, environment: Mapping[str, str] | None = None, *, command: str = "up"
    ) -> None:
        self.directory = directory
        self.config = directory / "routes.yaml"
        self.data = directory / "data"
        self.port = free_port()
        self.environment = dict(environment or {})
        self.config.write_text(rules, encoding="utf-8")
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> System:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # Its life

    def start(self) -> None:
        """Starts it and waits until it is ready."""
        with self.output.open("ab") as out, self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*COMMAND, self._command, "--port", str(self.port)],
                env=self.variables(),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
            )
        until(lambda: self.is_ready() or self._process is None or self._process.poll() is not None)
        assert self.is_ready(), self.log

    def stop(self) -> int:
        """Ends it by SIGTERM; returns the exit code, -1 when it was not running."""
        if self._process is None:
            return -1
        process, self._process = self._process, None
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def variables(self) -> dict[str, str]:
        """The environment of its processes: nothing of this machine's settings leaks in."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("EVENTROUTER_")}
        own |= {"EVENTROUTER_CONFIG": str(self.config), "EVENTROUTER_DATA_DIR": str(self.data)}
        own |= {"EVENTROUTER_PORT": str(self.port), "COLUMNS": "200", "PYTHONWARNINGS": ""}
        paths = [self.environment.get("PYTHONPATH", ""), own.get("PYTHONPATH", "")]
        return own | self.environment | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def run(self, *arguments: object, stdin: bytes = b"", seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Runs `eventrouter …` with the same settings, to its end."""
        return run_command([*map(str, arguments)], self.variables(), self.directory, stdin, seconds)

    def is_ready(self) -> bool:
        """What /ready says."""
        try:
            return self.get("/ready").status == 200
        except OSError:
            return False

    @property
    def output(self) -> Path:
        """What its processes write to stdout."""
        return self.directory / "stdout.txt"

    @property
    def log_path(self) -> Path:
        """What they log."""
        return self.directory / "log.txt"

    @property
    def log(self) -> str:
        """What they logged so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    # HTTP

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def request(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        """One request on a connection of its own."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
            connection.request(method, path, body or None, dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read())

    def get(self, path: str) -> Reply:
        """GET."""
        return self.request("GET", path)

    def post(self, path: str, body: Any, *, key: str | None = None, headers: Mapping[str, str] | None = None) -> Reply:
        """POSTs `body` (bytes as they are, else as JSON) with the write key as `curl -u KEY:` does ("" for none)."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        key = self.key if key is None else key
        own = {"Content-Type": "application/json"}
        if key:
            own["Authorization"] = "Basic " + base64.b64encode(f"{key}:".encode()).decode()
        return self.request("POST", path, data, own | dict(headers or {}))

    def send(self, *events: Mapping[str, Any], key: str | None = None) -> None:
        """Posts a batch, of which every event must be accepted."""
        reply = self.post("/v1/batch", {"batch": events}, key=key)
        assert (reply.status, reply.json) == (200, {"success": True}), reply

    def track(self, name: str, who: str, *, key: str | None = None, **fields: Any) -> None:
        """Posts one track event of the anonymousId `who`; `fields` are its other keys."""
        reply = self.post("/v1/track", {"event": name, "anonymousId": who, **fields}, key=key)
        assert (reply.status, reply.json) == (200, {"success": True}), reply

    # The warehouse and the numbers

    def sql(self, query: str, *values: object) -> list[dict[str, Any]]:
        """Rows of the embedded warehouse."""
        path = self.data / "warehouse.sqlite3"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query, values)]

    def rows(self, count: int, query: str, *values: object) -> list[dict[str, Any]]:
        """Rows of the warehouse, once there are `count` of them."""

        def ask() -> list[dict[str, Any]]:
            try:
                return self.sql(query, *values)
            except sqlite3.OperationalError as error:
                if "no such" in str(error) or "unable to open" in str(error):
                    return []  # a table or column that comes with its first event
                raise

        until(lambda: len(ask()) >= count, lambda: f"{len(ask())} rows instead of {count}: {query}")
        found = ask()
        assert len(found) == count, found
        return found

    def events(self, count: int, name: str) -> list[dict[str, Any]]:
        """The payloads of the track events `name` in the warehouse, once there are `count`, by time and id."""
        query = "SELECT payload FROM events WHERE payload ->> '$.event' = ? ORDER BY received_at, id"
        return [json.loads(row["payload"]) for row in self.rows(count, query, name)]

    def status(self) -> dict[str, Any]:
        """What `eventrouter status --json` says."""
        done = self.run("status", "--json")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def destination(self, name: str) -> dict[str, Any]:
        """Its row of `status`."""
        return dict(self.status()["destinations"][name])

    def metrics(self) -> dict[str, float]:
        """What /metrics says (at most a second old), by name with labels."""
        lines = self.get("/metrics").body.decode().splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if line and not line.startswith("#")]
        return {name: float(value) for name, value in pairs}

    def count(self, name: str, **labels: str) -> float:
        """One of our counters or gauges, such as `count("deliveries_dead_total", destination="crm")`; 0 without one."""
        text = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
        return self.metrics().get(f"eventrouter_{name}" + (f"{{{text}}}" if text else ""), 0)

    def until_count(self, value: float, name: str, **labels: str) -> None:
        """Waits until the counter has that value."""
        until(
            lambda: self.count(name, **labels) == value,
            lambda: f"{name} {labels} is {self.count(name, **labels)}, not {value}",
            every=0.2,
        )


def run(
    command: Sequence[str], environment: Mapping[str, str], directory: Path, stdin: bytes = b"", seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; its output as text."""
    done = subprocess.run(command, env=environment, cwd=directory, input=stdin, capture_output=True, timeout=seconds)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def until(
    condition: Callable[[], T],
    explain: Callable[[], str] = lambda: "",
    *,
    seconds: float = PATIENCE,
    every: float = 0.03,
) -> T:
    """Waits until `condition` gives something true, and returns it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, explain() or "it did not happen in time"
        time.sleep(every)
    return found


def steadily(condition: Callable[[], bool], seconds: float = 1.0) -> bool:
    """Whether `condition` stays true for so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not condition():
            return False
        time.sleep(0.05)
    return True


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def names(items: Iterable[Mapping[str, Any]], key: str = "event") -> list[Any]:
    """One value of each."""
    return [item.get(key) for item in items]
