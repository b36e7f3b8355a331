"""What a request sends: which source it is from, and what becomes of each of its events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from .acceptance import Acceptance, Client, Limits, Rejection
from .address import Address
from .answer import Headers
from .decode import Decoded, decode
from .inflate import inflate
from .pixel import read_pairs, read_pixel, refuse_pixel
from .proxies import Proxies
from .receive import Hold
from .records import RejectedEvent
from .scrub import Scrub
from .source import Source, find_source
from .validation import EventFault
from .webhook_source import read_headers, read_query
from .write_key import write_keys

BATCHES = ("batch", "import")
"""The endpoints to which events come in an array."""


class Accept(Protocol):
    """What `accept.accept` promises."""

    def __call__(
        self,
        body: Decoded,
        *,
        endpoint: str,
        source: str,
        received_at: datetime,
        limits: Limits,
        client: Client | None,
        scrub: Scrub | None,
    ) -> Acceptance: ...


class Endpoint(NamedTuple):
    """What is sent to a path."""

    name: str
    """`batch`, `import`, or the type of the event."""
    form: str = "json"
    """`json` with a write key, a `pixel`, or a `webhook`."""
    source: Source | None = None
    """Whose webhook it is."""


class Taken(NamedTuple):
    """A request's events, ready to be appended."""

    source: str
    acceptance: Acceptance
    headers: Headers = ()
    """What the answer says beside what became of them."""
    ignored: bool = False
    """Whether there is nothing to be kept: the `when` of its webhook is false."""


class Reception:
    """Reads requests for the collector; does no I/O. `sources`, `webhooks` and `limits` may be replaced at any time."""

    def __init__(
        self,
        *,
        sources: Mapping[str, Source],
        webhooks: Mapping[str, Source],
        accept: Accept,
        limits: Limits,
        proxies: Proxies,
        address: Address,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`sources` are by write key, `webhooks` are those sources that have one, by name."""
        self.sources = sources
        self.webhooks = webhooks
        self.limits = limits
        self._accept = accept
        self._proxies = proxies
        self._address = address
        self._now = now

    def take(self, data: bytes, endpoint: Endpoint, scope: Any, headers: dict[bytes, bytes], hold: Hold) -> Taken:
        """What becomes of each event of the body `data`; `hold` then holds what is to be appended.

        Raises `BodyError` when the request is refused as a whole, `UnavailableError` when it has to come again.
        """
        received_at = self._now()
        limits = self.limits
        encoding = headers.get(b"content-encoding")
        packing = "" if encoding is None else encoding.decode("latin-1").strip().lower()
        data = inflate(data, packing, limits.max_batch_bytes)
        hold.resize(len(data))
        if endpoint.form == "json":
            body = decode(data)
            source = self._find_source(body.value, scope, headers)
        else:
            read_other = self._read_webhook if endpoint.form == "webhook" else self._read_pixel
            source, read = read_other(data, endpoint, scope, headers, received_at)
            if read is None:
                return Taken(source.name, Acceptance(), ignored=True)
            if isinstance(read, RejectedEvent):
                source.count(read, is_batch=False)
                hold.resize(len(read.payload))
                return Taken(source.name, Acceptance(rejections=[Rejection(0, read)]))
            body = read
        source.count(body.value, is_batch=endpoint.name in BATCHES)
        acceptance = self._accept(
            body,
            endpoint=endpoint.name,
            source=source.name,
            received_at=received_at,
            limits=limits,
            client=None
            if endpoint.form == "webhook"
            else Client(self._proxies.client_ip(scope, headers), headers.get(b"user-agent", b"").decode("latin-1")),
            scrub=source.scrub,
        )
        size = sum([len(event.data) for event in acceptance.events])
        if acceptance.rejections:
            size += sum([len(rejection.record.payload) for rejection in acceptance.rejections])
        hold.resize(size)
        if source.cookie is not None and endpoint.form != "webhook":
            secure, host = self._address.asked(scope, headers)
            if source.cookie.is_asked_for(headers, host):
                events = body.value["batch"] if endpoint.name in BATCHES else (body.value,)
                return Taken(source.name, acceptance, source.cookie.renew(events, headers, secure=secure))
        return Taken(source.name, acceptance)

    def _find_source(self, value: Any, scope: Any, headers: dict[bytes, bytes]) -> Source:
        keys = write_keys(headers.get(b"authorization", b""), value, scope["query_string"])
        source = find_source(self.sources, keys)
        source.admit(headers.get(b"origin"))
        return source

    def _read_pixel(
        self, data: bytes, _: Endpoint, scope: Any, headers: dict[bytes, bytes], received_at: datetime
    ) -> tuple[Source, Decoded | RejectedEvent | None]:
        pairs = read_pairs(scope["query_string"], data)
        try:
            body = read_pixel(pairs)
        except EventFault as fault:  # nobody reads the answer, so it is a refused event, not a refused request
            source = self._find_source(dict(pairs), scope, headers)
            return source, refuse_pixel(pairs, fault, source, received_at)
        return self._find_source(body.value, scope, headers), body

    def _read_webhook(
        self, data: bytes, endpoint: Endpoint, scope: Any, headers: dict[bytes, bytes], received_at: datetime
    ) -> tuple[Source, Decoded | RejectedEvent | None]:
        source = endpoint.source
        assert source is not None
        assert source.webhook is not None
        source.admit(None)
        query = read_query(scope["query_string"])
        return source, source.webhook.take(data, read_headers(headers), query, received_at)
