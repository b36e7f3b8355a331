"""What a process is told outside of routes.yaml: environment variables (`EVENTROUTER_…`) and command-line options."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from .errors import ConfigError, Problem
from .masking import MASK
from .server_url import ServerUrl
from .worker_group import DEFAULT_GROUP, GROUP_HINT, is_group_name

PREFIX = "EVENTROUTER_"
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)
URL_HINT = (
    "such as redis://localhost:6379/0, rediss://…, unix:///run/valkey.sock, redis+sentinel://HOST,HOST/SERVICE or"
    " redis+cluster://HOST,HOST"
)
_HINTS = {
    "config": "give the path of a routes.yaml",
    "redis_url": URL_HINT,
    "queue_url": "the URL of a single Redis or Valkey, or of one behind Sentinel, for the few keys of arq",
    "replicas": "a number from 0 to 5, and the EVENTROUTER_REDIS_URL of a server that has them",
    "outcome_bytes": "such as 2MB; 0 for none",
    "maxmemory": "such as 512MB or 1GiB, at least 64MB",
    "port": "a number from 1 to 65535",
    "workers": "a number from 1 to 64",
    "worker_group": GROUP_HINT,
    "shards": "a number from 1 to 64; it can't change once the data directory is in use",
    "log_level": "debug, info, warning or error",
    "log_format": "auto, console or json",
}

_MESSAGES = {
    "int_parsing": "is not a whole number",
    "greater_than_equal": "is too small",
    "less_than_equal": "is too large",
    "string_too_short": "is too short",
    "literal_error": "is none of the known values",
}


class Settings(BaseSettings):
    """One value per setting: the command line's option, else the environment variable's, else the default.

    Build it with `Settings.read`, whose errors name the option or variable that is wrong. `repr` shows no secret.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, env_ignore_empty=True)

    config: Path = Field(default=Path("routes.yaml"), description="The rules.")
    data_dir: Path = Field(default=Path(".eventrouter"), description="Where the embedded server and databases live.")
    redis_url: str | None = Field(default=None, repr=False, description="A Redis or Valkey of your own.")
    queue_url: str | None = Field(
        default=None, repr=False, validate_default=True, description="Where arq's keys are, if not there too."
    )
    replicas: int = Field(default=0, ge=0, le=5, description="Replicas that have to have an event before its answer.")
    admin_token: SecretStr | None = Field(default=None, description="Lets operators in over HTTP.")
    shards: int = Field(default=4, ge=1, le=64, description="Partitions of the event log; fixed at the first start.")
    host: str = Field(default="127.0.0.1", min_length=1, description="The address to listen on.")
    port: int = Field(default=8000, ge=1, le=65535, description="The port to listen on.")
    workers: int = Field(default=1, ge=1, le=64, description="Worker processes that `up` runs.")
    worker_group: str = Field(default="", description="The group of destinations that a worker serves.")
    maxmemory: int = Field(default=2**30, ge=64 * 10**6, description="Bytes of memory for the embedded server.")
    outcome_bytes: int = Field(
        default=2 * 2**20,
        ge=0,
        description="Bytes in Redis, for each shard, for what became of the last deliveries (`trace`); 0: none.",
    )
    max_event_bytes: int = Field(default=32 * 1024, ge=1024, description="The longest event.")
    max_batch_bytes: int = Field(default=500 * 1024, ge=1024, description="The longest body of a request.")
    max_batch_events: int = Field(default=2500, ge=1, description="The most events of a request.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="The least level told.")
    log_format: Literal["auto", "console", "json"] = Field(default="auto", description="auto: console in a terminal.")

    @field_validator("maxmemory", "outcome_bytes", "max_event_bytes", "max_batch_bytes", mode="before")
    @classmethod
    def _read_size(cls, value: Any) -> Any:
        """`512MB`, `1GiB` or plain bytes."""
        if not isinstance(value, str):
            return value
        match = _SIZE.fullmatch(value)
        if match is None or match[2].lower() not in _UNITS:
            raise ValueError("is not a size")
        return int(float(match[1]) * _UNITS[match[2].lower()])

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, value: str | None) -> str | None:
        if value is not None:
            ServerUrl.parse(value)
        return value

    @field_validator("queue_url")
    @classmethod
    def _check_queue_url(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and ServerUrl.parse(value).kind == "cluster":
            raise ValueError("is that of a Cluster, on which arq can't work")
        if value is None and (other := info.data.get("redis_url")) and ServerUrl.parse(other).kind == "cluster":
            raise ValueError("is needed where EVENTROUTER_REDIS_URL is a Cluster, on which arq can't work")
        return value

    @field_validator("worker_group")
    @classmethod
    def _check_worker_group(cls, value: str) -> str:
        if value and not is_group_name(value):
            raise ValueError("is not a name for a group of workers")
        return "" if value == DEFAULT_GROUP else value

    @field_validator("replicas")
    @classmethod
    def _check_replicas(cls, value: int, info: ValidationInfo) -> int:
        if value and "redis_url" in info.data and info.data["redis_url"] is None:
            raise ValueError("is not possible with the embedded server, which has none")
        return value

    @classmethod
    def read(cls, **options: Any) -> Self:
        """The settings of this process; `options` are those of the command line, None where one was not given.

        Raises `ConfigError` with every problem at once.
        """
        given = {name: value for name, value in options.items() if value is not None}
        try:
            return cls(**given)
        except ValidationError as error:
            raise ConfigError([_problem(details, given) for details in error.errors()]) from None

    @property
    def embedded(self) -> bool:
        """True when the embedded server is used: no `EVENTROUTER_REDIS_URL`."""
        return self.redis_url is None

    @property
    def server_url(self) -> str:
        """The URL of the Redis or Valkey in use; the embedded one's address follows from the data directory alone."""
        return self.redis_url or f"unix://{self.socket_path}"

    @property
    def shown_server_url(self) -> str:
        """`server_url` for logs and errors: without user and password."""
        return mask_url(self.server_url)

    @property
    def queue_server_url(self) -> str:
        """The URL of the server that has arq's keys."""
        return self.queue_url or self.server_url

    @property
    def server_secrets(self) -> list[str]:
        """The passwords in the URLs."""
        urls = [ServerUrl.parse(url) for url in (self.redis_url, self.queue_url) if url]
        return [secret for url in urls for secret in url.secrets]

    @property
    def socket_path(self) -> Path:
        """Where the embedded server listens."""
        return socket_path(self.data_dir)


def socket_path(data_dir: Path) -> Path:
    """The unix socket of the embedded server of `data_dir`: short (the limit is 103 bytes on macOS), the same for all.

    It lies in /tmp and not in XDG_RUNTIME_DIR, which is emptied at logout while the server lives on.
    """
    digest = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:16]
    base = Path("/tmp")
    if not os.access(base, os.W_OK | os.X_OK):
        base = Path(tempfile.gettempdir())
    return base / f"eventrouter-{os.getuid()}-{digest}" / "valkey.sock"


def mask_url(url: str) -> str:
    """`url` with the user and passwords replaced by `MASK`."""
    return re.sub(r"(?i)([?&]\w*password=)[^&#\s]*", rf"\1{MASK}", re.sub(r"(?<=://)[^/@\s]*@", f"{MASK}@", url))


def _problem(details: Any, given: dict[str, Any]) -> Problem:
    name = str(details["loc"][0])
    option = {"worker_group": "--group"}.get(name, "--" + name.replace("_", "-"))
    where = option if name in given else PREFIX + name.upper()
    message = _MESSAGES.get(details["type"], str(details["msg"]).removeprefix("Value error, "))
    # What may hold a secret is not repeated.
    value = "" if name in ("redis_url", "queue_url", "admin_token") else f"{str(details['input'])!r} "
    return Problem(where, 0, 0, value + message, _HINTS.get(name, ""))
