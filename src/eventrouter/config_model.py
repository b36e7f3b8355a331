"""What routes.yaml says, checked: frozen values that every part reads. Durations are seconds, sizes bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from .destination import Destination, RateLimit
from .enrichment import Enrichment
from .errors import Problem
from .masking import Mask

DEFAULT_BACKLOG = 200_000


@dataclass(frozen=True, slots=True)
class ScrubConfig:
    """What is taken out of a source's events before anything is stored. Paths are as written, dotted."""

    remove: tuple[str, ...] = ()
    hash: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    """Names of query parameters."""
    salt: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class CookieConfig:
    """The first-party cookie by which the collector keeps a browser's anonymous id."""

    name: str = "er_anonymous_id"
    domain: str = ""
    """Without one, the cookie is the collector's host's alone."""
    max_age: float = 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class VerifyConfig:
    """How a webhook source knows who sends."""

    scheme: str
    """`stripe`, `github`, `standard-webhooks`, `token` or `none`."""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Any of them will do."""
    header: str = ""
    """Where a token stands: the name of a header, in small letters."""
    query: str = ""
    """Where a token stands: the name of a query parameter."""
    tolerance: float = 300.0


@dataclass(frozen=True, slots=True)
class WebhookSourceConfig:
    """How what is posted to `/v1/webhook/SOURCE` becomes an event; its texts are templates."""

    verify: VerifyConfig
    event: dict[str, Any]
    when: str | None = None


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """Something that sends events, and the write keys that it may send with."""

    name: str
    write_keys: tuple[str, ...]
    enabled: bool = True
    origins: tuple[str, ...] | None = None
    """`https://shop.example` or `https://*.shop.example`, in small letters: the pages that may send; None: any."""
    rate_limit: float | None = None
    """Events per second."""
    scrub: ScrubConfig | None = None
    cookie: CookieConfig | None = None
    webhook: WebhookSourceConfig | None = None


@dataclass(frozen=True, slots=True)
class CollectConfig:
    """How the collector is reached, and what it keeps while Redis is away."""

    path_prefix: str = ""
    """`/e`: every path also answers below it; empty: none."""
    public_url: str = ""
    """What clients call the collector, without a slash at its end; empty: as the request says."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks (`10.0.0.0/8`, `::1/128`) whose `X-Forwarded-*` headers are believed."""
    spool_max_bytes: int = 1024**3
    """0: there is no spool."""


@dataclass(frozen=True, slots=True)
class WarehouseConfig:
    """Where the warehouse is; an empty `url` means the SQLite file in the data directory."""

    url: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class StateConfig:
    """Where the state database is; an empty `url` means the SQLite file in the data directory."""

    url: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class DedupConfig:
    """How long, and in how much memory, the ids of events are remembered."""

    window: float = 86_400.0
    max_bytes: int = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """How a delivery is tried again."""

    initial: float = 1.0
    max_interval: float = 300.0
    max_age: float = 72 * 3600.0
    max_attempts: int = 10


@dataclass(frozen=True, slots=True)
class DestinationConfig:
    """A configured instance of a destination plugin."""

    name: str
    plugin: str
    options: BaseModel
    cls: type[Destination]
    consent: tuple[str, ...] = ()
    """The consent categories without which nothing leaves for it."""
    batch_size: int = 1
    batch_wait: float = 0.0
    retry: RetryConfig = RetryConfig()
    concurrency: int = 8
    """Calls at once in each lane."""
    rate_limit: RateLimit | None = None
    timeout: float = 30.0
    backlog: int = DEFAULT_BACKLOG
    """How many deliveries may wait for it."""
    enabled: bool = True
    worker_group: str = ""
    """The workers that serve it; '' for those that serve what no group does."""
    calls: int | None = None
    """Calls at once in all lanes together; None: no bound but those of the lanes."""


@dataclass(frozen=True, slots=True)
class EnrichmentConfig:
    """An enrichment that runs; identity is not among them, since it always does."""

    name: str
    options: BaseModel
    cls: type[Enrichment]


@dataclass(frozen=True, slots=True)
class HashConfig:
    """Paths whose values are replaced by their digests, and the secret that goes into them."""

    salt: str = field(repr=False)
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RouteConfig:
    """One rule: from which sources, when, what to change, to which destinations. Paths are as written, dotted."""

    name: str
    to: tuple[str, ...]
    from_: tuple[str, ...] | None = None
    """None: all sources."""
    when: str | None = None
    consent: tuple[str, ...] = ()
    sample: float | None = None
    skip: str | None = None
    """A reason: matching events are filtered with it."""
    set: dict[str, Any] = field(default_factory=dict)
    map: Any = None
    """None: the payload is the event."""
    rename: dict[str, str] = field(default_factory=dict)
    hash: HashConfig | None = None
    keep: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()
    line: int = 0
    """Where it begins in its file, from 1."""
    path: str = ""
    """Its file."""


@dataclass(frozen=True, slots=True)
class PostConfig:
    """What another system posts to the webhook of a test's source."""

    body: Any
    headers: dict[str, str] = field(default_factory=dict)
    """Their names are in small letters."""
    query: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TestConfig:
    """One entry of `tests:`: events, and by destination what is expected of them."""

    __test__ = False  # for pytest, which collects classes of this name

    name: str
    given: tuple[dict[str, Any] | PostConfig, ...]
    expect: dict[str, Any]
    """By destination: its payload (of several events a list of payloads), or a text that says why it gets nothing.

    `warehouse` stands for the events as they are stored.
    """
    source: str = ""
    exact: bool = False
    """Whether payloads have to be equal, rather than to contain what is expected."""
    path: str = ""
    line: int = 0


TEXT_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Config:
    """All of routes.yaml, checked."""

    path: str
    version: str
    """12 hex digits: `TEXT_DIGITS` for the texts of the files, the rest for what variables brought into them."""
    sources: dict[str, SourceConfig]
    collect: CollectConfig = CollectConfig()
    warehouse: WarehouseConfig = WarehouseConfig()
    state: StateConfig = StateConfig()
    dedup: DedupConfig = DedupConfig()
    enrichments: dict[str, EnrichmentConfig] = field(default_factory=dict)
    """Those that run beside identity, in their order."""
    vars: dict[str, Any] = field(default_factory=dict)
    """Named values, whose texts are templates."""
    destinations: dict[str, DestinationConfig] = field(default_factory=dict)
    routes: list[RouteConfig] = field(default_factory=list)
    tests: list[TestConfig] = field(default_factory=list)
    warnings: tuple[Problem, ...] = ()
    """What is worth a look, though the file can be used."""
    files: tuple[str, ...] = ()
    """The files that were read, and the folders in which others were looked for."""
    texts: tuple[tuple[str, str], ...] = field(default=(), repr=False, compare=False)
    """Path and text of each file, as written; the main one first."""
    mask: Mask = field(default=Mask(), repr=False, compare=False)
    """Takes out of texts what variables brought into the files."""

    def group_of(self, lane: str) -> str:
        """The worker group that serves the lanes of this name; '' is the default one."""
        one = self.destinations.get(lane)
        return one.worker_group if one is not None and one.enabled else ""

    @property
    def worker_groups(self) -> list[str]:
        """The groups beside the default one that have something to serve."""
        return sorted({self.group_of(name) for name in self.destinations} - {""})
