"""Reads the destinations of routes.yaml; each plugin's own options are checked by its pydantic model."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from . import quantities
from .config_model import DEFAULT_BACKLOG, DestinationConfig, RetryConfig
from .config_options import OptionsReader
from .config_reader import Reader, did_you_mean
from .destination import MAX_TIMEOUT, Destination, RateLimit
from .errors import Problem
from .worker_group import DEFAULT_GROUP, GROUP_HINT, is_group_name
from .yaml_file import MapNode, Node, Scalar

if TYPE_CHECKING:
    from .config import Config

RESERVED = ("warehouse", "log")
KEYS = (
    "plugin", "options", "consent", "batch", "retry", "concurrency", "rate_limit", "timeout", "backlog", "enabled",
    "worker_group",
)  # fmt: skip

SMALL_PART = 100
"""Deliveries; a shard's part of `backlog` that is smaller is worth a warning."""

_NAME = re.compile(r"[a-z0-9_-]{1,64}\Z")


def read_destinations(reader: Reader, node: Node | None) -> dict[str, DestinationConfig | None]:
    """`destinations:` by name; None for one that can't be used as it stands."""
    destinations: dict[str, DestinationConfig | None] = {}
    for name, value in reader.mapping(node, "`destinations`").items():
        key = node.keys[name] if isinstance(node, MapNode) else None
        if name in RESERVED:
            hint = "the warehouse is always on and gets every event" if name == "warehouse" else "choose another name"
            reader.problem(key, f"`{name}` is a reserved name", hint)
        elif not _NAME.match(name):
            hint = "1 to 64 small letters, digits, _ and -"
            reader.problem(key, f"`{name}` is not a name for a destination", hint)
        destinations[name] = _read_destination(reader, name, key, value)
    return destinations


def _read_destination(reader: Reader, name: str, key: Scalar | None, node: Node) -> DestinationConfig | None:
    settings = reader.mapping(node, f"the destination `{name}`", KEYS)
    cls = _plugin(reader, name, key, settings)
    options = _options(reader, name, cls).read(settings.get("options"), key) if cls else None
    default = cls or Destination
    batch = reader.mapping(settings.get("batch"), "`batch`", ("size", "wait"))
    usual = default.default_batch_size or default.batch_size
    hint = f"the plugin takes at most {default.batch_size:,}" if cls else ""
    most = default.batch_size if cls else 10**6
    size = reader.whole(batch.get("size"), "`batch.size`", usual, 1, most, hint)
    wait = reader.quantity(batch.get("wait"), "`batch.wait`", 0.0, quantities.duration)
    consent = reader.texts(settings.get("consent"), "`consent`")
    retry = _retry(reader, settings.get("retry"))
    calls = reader.whole(settings.get("concurrency"), "`concurrency`", 0, 1, 1000) or None
    rate_limit = _rate_limit(reader, settings.get("rate_limit"), default.rate_limit)
    timeout = reader.quantity(settings.get("timeout"), "`timeout`", min(default.timeout, MAX_TIMEOUT), _timeout, 0.1)
    backlog = reader.whole(settings.get("backlog"), "`backlog`", DEFAULT_BACKLOG, 1, 10**9)
    enabled = reader.flag(settings.get("enabled"), "`enabled`", True)
    group = _worker_group(reader, settings.get("worker_group"))
    if cls is None or options is None:
        return None
    limits = (calls or default.concurrency, rate_limit, timeout, backlog)
    return DestinationConfig(name, cls.name, options, cls, consent, size, wait, retry, *limits, enabled, group, calls)


def _worker_group(reader: Reader, node: Node | None) -> str:
    group = reader.text(node, "`worker_group`") or ""
    if group and not is_group_name(group):
        reader.problem(node, "`worker_group` is not a name for a group of workers", GROUP_HINT)
    return "" if group == DEFAULT_GROUP else group


def _timeout(text: str) -> float:
    seconds = quantities.duration(text)
    if seconds > MAX_TIMEOUT:
        raise ValueError(
            f"at most {MAX_TIMEOUT:g}s: a turn of a lane has to end, and an attempt may need several calls"
        )
    return seconds


def _plugin(reader: Reader, name: str, key: Scalar | None, settings: dict[str, Node]) -> type[Destination] | None:
    node = settings.get("plugin")
    plugin = reader.text(node, "`plugin`")
    cls = reader.plugins.destinations.get(plugin) if plugin else None
    if cls is None and "options" in settings:
        reader.secret(settings["options"])  # nobody knows which of them are secrets
    if node is None:
        hint = f"add `plugin: …`; installed are {', '.join(sorted(reader.plugins.destinations))}"
        reader.problem(key, f"the destination `{name}` has no plugin", hint)
    elif plugin and cls is None:
        shown = "its name" if isinstance(node, Scalar) and node.variables else f"`{plugin}`"
        hint = did_you_mean(plugin, sorted(reader.plugins.destinations), "installed are")
        reader.problem(node, f"no installed plugin is called {shown}", hint or "install it with pip")
    return cls


def _options(reader: Reader, name: str, cls: type[Destination]) -> OptionsReader:
    plugin, user = f"the plugin `{cls.name}`", f"the destination `{name}`"
    return OptionsReader(reader, cls.Options, plugin=plugin, user=user, what="`options`")


def _retry(reader: Reader, node: Node | None) -> RetryConfig:
    settings = reader.mapping(node, "`retry`", ("initial", "max_interval", "max_age", "max_attempts"))
    default, duration = RetryConfig(), quantities.duration
    retry = RetryConfig(
        reader.quantity(settings.get("initial"), "`retry.initial`", default.initial, duration, 0.01),
        reader.quantity(settings.get("max_interval"), "`retry.max_interval`", default.max_interval, duration, 0.01),
        reader.quantity(settings.get("max_age"), "`retry.max_age`", default.max_age, duration, 0),
        reader.whole(settings.get("max_attempts"), "`retry.max_attempts`", default.max_attempts, 1, 10**6),
    )
    if retry.initial > retry.max_interval:
        reader.problem(settings.get("initial") or settings["max_interval"], "`initial` is longer than `max_interval`")
    return retry


def _rate_limit(reader: Reader, node: Node | None, default: RateLimit | None) -> RateLimit | None:
    if not isinstance(node, MapNode):
        return reader.quantity(node, "`rate_limit`", default, quantities.rate)
    settings = reader.mapping(node, "`rate_limit`", ("count", "per_seconds"))
    if "count" not in settings:
        reader.problem(node, "`rate_limit` has no `count`", "write `10/s`, or { count: 10, per_seconds: 1 }")
    count = reader.whole(settings.get("count"), "`rate_limit.count`", 1, 1, 10**9)
    per = reader.quantity(settings.get("per_seconds"), "`rate_limit.per_seconds`", 1.0, quantities.duration, 0.001)
    return RateLimit(count, per)


def part_of(one: DestinationConfig, shards: int) -> int:
    """How much of its `backlog` a destination has in each shard."""
    return max(one.backlog // shards, 1)


def small_parts(config: Config, shards: int) -> list[Problem]:
    """Warnings of destinations whose part of `backlog` is used up soon by one order key, which is in one shard."""
    hint = "events of one userId are in one shard, where more than these become dead letters: raise it"
    found = []
    for name, one in config.destinations.items():
        if shards > 1 and (part := part_of(one, shards)) < SMALL_PART:
            what = f"`backlog: {one.backlog}` of the destination `{name}` is {part} in each of {shards} shards"
            found.append(Problem(config.path, 0, 0, what, hint, severity="warning"))
    return found
