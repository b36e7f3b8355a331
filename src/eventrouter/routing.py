"""Makes the parts of a worker's routing of what routes.yaml says."""

from __future__ import annotations

from pathlib import Path

from .config import Config
from .config_enrichments import IDENTITY
from .enrich import Rules
from .enrichment import Enrichment
from .plugins import Plugins
from .route import Router


def make_rules(config: Config, router: Router, dedup_limit: int) -> Rules:
    """The rules of the router's turns; `dedup_limit` (bytes) bounds what is remembered of events."""
    return Rules(
        version=config.version,
        route=router.route,
        backlogs={name: destination.backlog for name, destination in config.destinations.items()},
        window=config.dedup.window,
        dedup_bytes=min(config.dedup.max_bytes, dedup_limit),
        mismatches=lambda: router.mismatches,
    )


def make_identity(config: Config, plugins: Plugins, data_dir: Path) -> list[Enrichment]:
    """Identity, whose options come from `state:`."""
    state = {"url": config.state.url or f"sqlite:///{data_dir.resolve() / 'state.sqlite3'}"}
    return [cls(cls.Options(**state)) for cls in plugins.enrichments if cls.name == IDENTITY]
