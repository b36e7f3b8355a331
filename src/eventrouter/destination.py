"""What a destination plugin builds on: `Destination`, `Message`, `RateLimit`, `check_response`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import structlog
from pydantic import ConfigDict, Field

from .errors import Reject, Retry
from .http import HttpClient, Response, retry_after, to_json
from .options import OptionDuration
from .options import Options as BaseOptions

Outcome = Retry | Reject
"""Why a message was not delivered. A message without an outcome was delivered."""

RETRYABLE = frozenset({408, 425, 429})
"""The 4xx answers that pass by themselves (RFC 9110 §15.5.9, RFC 8470, RFC 6585); every 5xx does too."""


MAX_TIMEOUT = 120.0
"""Seconds: no attempt may take longer."""


class Message:
    """One delivery as a plugin sees it. Plugins change nothing in it."""

    __slots__ = (
        "_payload", "attempt", "id", "message_id", "order_key", "replay", "source", "timestamp", "type",
    )  # fmt: skip

    id: str
    """The idempotency key of (source, messageId, destination): the same at every attempt, for ever."""
    message_id: str
    """The event's `messageId`."""
    source: str
    """The name of the event's source in routes.yaml."""
    type: str
    """The event's type: track, identify, page, screen, group or alias."""
    order_key: str
    """A digest of the event's order key; two messages with the same one are in the order of the log."""
    timestamp: str
    """When the event happened, ISO 8601 in UTC."""
    attempt: int
    """How often this delivery has been tried, this attempt included."""
    replay: bool
    """Sent again by an operator; order is not promised for it."""

    def __init__(
        self,
        id: str,  # noqa: A002 (as Segment calls it)
        payload: Any,
        message_id: str,
        source: str,
        type: str,  # noqa: A002 (the word of the wire)
        order_key: str,
        timestamp: str,
        attempt: int = 1,
        replay: bool = False,
    ) -> None:
        """`payload` is a value, or its JSON (`msgspec.Raw`), which is decoded once somebody asks for the value."""
        self.id = id
        self._payload = payload
        self.message_id = message_id
        self.source = source
        self.type = type
        self.order_key = order_key
        self.timestamp = timestamp
        self.attempt = attempt
        self.replay = replay

    @property
    def payload(self) -> Any:
        """What the route made of the event: the event itself (a dict), or what `map:` built."""
        if type(self._payload) is msgspec.Raw:
            self._payload = msgspec.json.decode(self._payload)
        return self._payload

    @property
    def json(self) -> bytes:
        """The payload as JSON, integers exact: for a plugin that sends it as it is this spares decoding and encoding.

        Raises `Reject` when it cannot be written as JSON.
        """
        payload = self._payload
        return bytes(payload) if type(payload) is msgspec.Raw else to_json(payload)

    def __repr__(self) -> str:
        return f"Message(id={self.id!r}, message_id={self.message_id!r}, source={self.source!r}, type={self.type!r})"


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `count` messages per `per_seconds` seconds."""

    count: int
    per_seconds: float = 1.0


class Request(msgspec.Struct, frozen=True):
    """An HTTP request that a destination would make, for `explain`.

    The destination writes `MASK` where it would put a secret, or what is made of one. `explain` masks what it finds of
    the options' secrets all the same.
    """

    method: str
    url: str
    headers: dict[str, str]
    body: str


class Destination:
    """The base of every destination plugin.

    A subclass names itself (`name`), declares `Options` and defines `deliver`. One instance serves one destination of
    routes.yaml in one worker process, for every shard; `deliver` may run several times at once, never at once for two
    messages with the same order key.
    """

    name: ClassVar[str]
    """What `plugin:` in routes.yaml calls it."""
    batch_size: ClassVar[int] = 1
    """How many messages `deliver` takes at most; routes.yaml may lower it (`batch.size`)."""
    default_batch_size: ClassVar[int | None] = None
    """How many it takes when routes.yaml says nothing; None for `batch_size`."""
    concurrency: ClassVar[int] = 8
    """How many `deliver` calls may run at once in one lane; routes.yaml may say instead how many in all of them."""
    rate_limit: ClassVar[RateLimit | None] = None
    """How fast the service may be called at most; None for no limit."""
    timeout: ClassVar[float] = 30.0
    """Seconds after which an attempt is given up and counts as `Retry`; at most `MAX_TIMEOUT`."""
    pin_batches: ClassVar[bool] = False
    """True when a retry must repeat the very same batch (arrays with one id, files)."""
    keeps_order: ClassVar[bool] = False
    """False: a batch holds one message of each order key, since what is taken can't be taken back when the one before
    it has to be sent again. True: batches are full, and `deliver` sees to the order: where it returns `Retry` for a
    message, the later ones of its order key are not taken (the service takes all or nothing, say)."""

    class Options(BaseOptions):
        """What `options:` may hold. Subclasses add fields; each has a description, secrets are `SecretStr`."""

        # A wrong secret is as secret as a right one: errors show no values.
        model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

        timeout: OptionDuration = Field(
            default=10.0, gt=0, le=MAX_TIMEOUT, description="How long an HTTP request may take, 120s at most."
        )
        allow_private: bool = Field(
            default=False, description="Allow requests to loopback, private and link-local addresses."
        )

    options: Any

    def __init__(self, options: Options, *, destination: str = "", batch_size: int | None = None) -> None:
        """`options` is a validated instance of `Options`; `destination` the name that routes.yaml gave.

        `batch_size` is what routes.yaml's `batch.size` came to; None for the default.
        """
        self.options = options
        self.destination = destination or self.name
        self.configured_batch_size = batch_size or self.default_batch_size or self.batch_size
        self.http = HttpClient(timeout=options.timeout, allow_private=options.allow_private)
        self.log = structlog.get_logger("eventrouter.destination").bind(destination=self.destination)

    async def start(self) -> None:
        """Runs once before the first `deliver`, in the worker's event loop. May raise: it is tried again later."""

    async def close(self) -> None:
        """Runs once when the worker ends."""
        await self.http.close()

    async def deliver(self, messages: Sequence[Message]) -> Mapping[str, Outcome] | None:
        """Delivers `messages` (1 to `batch_size`, in order) and returns what was not delivered, by message id.

        None or an empty mapping: all delivered. Raising `Retry` or `Reject` speaks for the whole batch; a timeout or a
        connection error counts as `Retry`; any other exception is a bug of the plugin: retried within limits, then a
        dead letter with its traceback.
        """
        raise TypeError(f"{type(self).__name__} does not define deliver()")

    def requests(self, messages: Sequence[Message]) -> list[Request]:
        """The HTTP requests that `deliver` would make for `messages`; nothing is sent.

        Raises what `deliver` would give every one of them before it sends anything, such as a `Reject`.
        """
        return []


def check_response(response: Response) -> None:
    """Returns for 2xx; raises `Retry` for 408, 425, 429 and 5xx (with Retry-After in seconds), `Reject` for the rest.

    A redirect is not followed and is a `Reject`: the address in the options is to be corrected.
    """
    if 200 <= response.status < 300:
        return
    reason = f"HTTP {response.status}"
    if response.status in RETRYABLE or response.status >= 500:
        raise Retry(
            reason,
            after=retry_after(response.headers),
            status=response.status,
            response=response.text,
            everyone=response.status in (429, 503),
        )
    raise Reject(reason, status=response.status, response=response.text)
