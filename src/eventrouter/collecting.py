"""Makes a collector's parts of what routes.yaml says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from .accept import accept
from .acceptance import Limits
from .collect import Append, Collector
from .config_model import Config, SourceConfig
from .cookie import Cookie
from .limiter import Limiter
from .origins import Origins
from .script import Script
from .scrub import Scrub
from .settings import Settings
from .source import Source
from .webhook_source import WebhookSource


class Sources:
    """The sources of `config`; all write keys of a source share its rate limit."""

    def __init__(self, config: Config, filters: Mapping[str, Callable[..., Any]]) -> None:
        """`filters` are the plugins' template filters. Raises `ExpressionError` when a webhook does not compile."""
        made = {name: make_source(source, filters, config.vars) for name, source in config.sources.items()}
        self.by_key = {key: made[name] for name, source in config.sources.items() for key in source.write_keys}
        self.webhooks = {name: source for name, source in made.items() if source.webhook is not None}


def make_collector(
    config: Config,
    settings: Settings,
    filters: Mapping[str, Callable[..., Any]],
    *,
    append: Append,
    ready: Callable[[], Awaitable[Mapping[str, Any]]],
    metrics: Callable[[], Awaitable[bytes]],
) -> Collector:
    """The ASGI application of a collector; see there for the last three."""
    sources = Sources(config, filters)
    limits = Limits(
        max_event_bytes=settings.max_event_bytes,
        max_batch_bytes=settings.max_batch_bytes,
        max_batch_events=settings.max_batch_events,
    )
    return Collector(
        sources=sources.by_key,
        webhooks=sources.webhooks,
        accept=accept,
        append=append,
        ready=ready,
        metrics=metrics,
        limits=limits,
        options=config.collect,
        script=Script.packaged(),
    )


def make_source(
    config: SourceConfig, filters: Mapping[str, Callable[..., Any]], variables: Mapping[str, Any]
) -> Source:
    """One source with all that its requests go through; `variables` are the rules' `vars:`."""
    scrub = config.scrub
    return Source(
        config.name,
        config.enabled,
        origins=None if config.origins is None else Origins(config.origins),
        cookie=None if config.cookie is None else Cookie(config.cookie),
        scrub=None
        if scrub is None
        else Scrub(remove=scrub.remove, hashed=scrub.hash, query=scrub.query, salt=scrub.salt),
        limiter=None if config.rate_limit is None else Limiter(config.rate_limit),
        webhook=None if config.webhook is None else WebhookSource(config, filters, variables),
    )
