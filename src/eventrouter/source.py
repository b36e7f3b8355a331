"""What a write key stands for: the source, and how the collector treats what it sends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Source:
    """What a write key stands for. What is None is switched off."""

    name: str
    enabled: bool = True
    origins: tuple[str, ...] | None = None
    """The origins whose pages may send events, `https://*.example.com` for all below one; None: any."""
    cookie: Any = None
    """The first-party cookie with the anonymous id that the collector sets."""
    scrub: Any = None
    """What is taken out of each event before it is stored."""
    limiter: Any = None
    """How many events it may send."""
    webhook: Any = None
    """How another system's JSON becomes an event."""
