"""What a write key stands for: the source, and how the collector treats what it sends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .acceptance import BodyError
from .cookie import Cookie
from .errors import UnavailableError
from .limiter import Limiter
from .origins import Origins
from .scrub import Scrub
from .webhook_source import WebhookSource


class RateLimitedError(UnavailableError):
    """A source sends more than its `rate_limit`."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a write key stands for. What is None is switched off."""

    name: str
    enabled: bool = True
    origins: Origins | None = None
    """The pages that may send events; None: any."""
    cookie: Cookie | None = None
    """The first-party cookie with the anonymous id that the collector sets."""
    scrub: Scrub | None = None
    """What is taken out of each event before it is stored."""
    limiter: Limiter | None = None
    """How many events it may send."""
    webhook: WebhookSource | None = None
    """How another system's JSON becomes an event."""

    def admit(self, origin: bytes | None) -> None:
        """Raises `BodyError` when it is switched off, or when no page of `origin` may send (None: it has none)."""
        if not self.enabled:
            raise BodyError("source_disabled", "the source of this write key is switched off", status=403)
        if origin is not None and self.origins is not None and not self.origins.allow(origin):
            reason = "pages of this origin may not send events for this source; see its `origins`"
            raise BodyError("origin_not_allowed", reason, status=403)

    def count(self, body: Any, *, is_batch: bool) -> None:
        """Counts the events of a body: those of `batch` if `is_batch`, else one, and never none.

        Raises `RateLimitedError` when it has to come again later, as a whole.
        """
        if self.limiter is None:
            return
        events = body.get("batch") if is_batch and isinstance(body, dict) else None
        seconds = self.limiter.take(max(len(events), 1) if isinstance(events, list) else 1)
        if seconds:
            raise RateLimitedError("the source sends more events than its `rate_limit`", retry_after=seconds)


def find_source(sources: Mapping[str, Source], keys: Iterable[str]) -> Source:
    """The source of the first of `keys` that is known. Raises `BodyError`."""
    code, message = "missing_write_key", "the request has no write key; send it as the user name of Basic auth"
    for key in keys:
        source = sources.get(key)
        if source is not None:
            return source
        code, message = "unknown_write_key", "no source has this write key"
    raise BodyError(code, message, status=401)
