"""Built-in: resolves the ids of events to persons."""

from __future__ import annotations

from collections.abc import Sequence

from eventrouter.enrichment import Enrichment
from eventrouter.hookspecs import hookimpl

from .enrichment import IdentityEnrichment

__all__ = ["IdentityEnrichment", "register_enrichments"]


@hookimpl
def register_enrichments() -> Sequence[type[Enrichment]]:
    """The identity enrichment."""
    return [IdentityEnrichment]
