"""Makes a collector's parts of what routes.yaml says."""

from __future__ import annotations

from .config_model import Config, SourceConfig
from .cookie import Cookie
from .limiter import Limiter
from .origins import Origins
from .scrub import Scrub
from .source import Source


def make_sources(config: Config) -> dict[str, Source]:
    """The sources of `config` by their write keys; all keys of a source share its rate limit."""
    sources = [(source, make_source(source)) for source in config.sources.values()]
    return {key: made for source, made in sources for key in source.write_keys}


def make_source(config: SourceConfig) -> Source:
    """One source with all that its requests go through."""
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
    )
