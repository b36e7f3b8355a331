"""A collector of a routes.yaml whose event log is a list: for tests that begin with the file and the request."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from eventrouter.accept import accept
from eventrouter.acceptance import AcceptedEvent
from eventrouter.collect import Collector
from eventrouter.collecting import Sources
from eventrouter.config import loads
from eventrouter.events import StoredEvent
from eventrouter.plugins import Plugins
from eventrouter.records import RejectedEvent

_stored = msgspec.json.Decoder(StoredEvent)


class Response(NamedTuple):
    """An answer of the collector."""

    status: int
    headers: dict[bytes, bytes]
    json: Any


class Collecting:
    """The collector, and what it would have appended."""

    def __init__(self, text: str, **environ: str) -> None:
        self.config = loads(text, Plugins(), environ)
        self.events: list[dict[str, Any]] = []
        self.rejected: list[RejectedEvent] = []
        sources = Sources(self.config, {})
        self.collector = Collector(
            sources=sources.by_key,
            webhooks=sources.webhooks,
            accept=accept,
            append=self._append,
            ready=_nothing,
            metrics=_nothing,
            options=self.config.collect,
            now=lambda: datetime(2026, 11, 24, 17, tzinfo=UTC),
        )

    async def _append(self, events: Sequence[AcceptedEvent], rejected: Sequence[RejectedEvent]) -> None:
        self.events += [_stored.decode(event.data).event for event in events]
        self.rejected += rejected

    async def post(
        self, path: str, body: Any, key: str = "", client: str = "198.51.100.1", query: bytes = b"", **headers: str
    ) -> Response:
        """The answer to a body (bytes as they are, else as JSON); `user_agent=` is the header `User-Agent`."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": data, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        named = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        if key:
            named["authorization"] = "Basic " + b64encode(f"{key}:".encode()).decode()
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "query_string": query,
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in named.items()],
            "client": (client, 1234),
        }
        await self.collector(scope, receive, send)
        return Response(sent[0]["status"], dict(sent[0]["headers"]), json.loads(sent[1]["body"]))


async def _nothing() -> Any:
    return {}
