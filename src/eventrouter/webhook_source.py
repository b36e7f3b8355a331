"""Makes an event of what another system posts to `/v1/webhook/SOURCE`."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from .acceptance import BodyError
from .config_model import SourceConfig
from .config_webhooks import ROOTS
from .decode import MAX_DEPTH, Decoded, decode, depth, mend_text
from .expressions import Expressions, TemplateError
from .records import RejectedEvent, rejection_id
from .signatures import Verifier
from .times import utc, write_time
from .validation import MAX_MESSAGE_ID

DELIVERY_IDS = ("webhook-id", "svix-id", "x-github-delivery")
"""Headers that are the same when a sender repeats itself."""

MAX_FIELDS = 1000
"""How many fields a form may have."""


class WebhookSource:
    """One source's `webhook:`, compiled.

    A sender repeats for days what is answered with an error, and may switch the webhook off. So only a request that
    nobody may trust or read is refused (`BodyError`); what can't be mapped is a rejected event, as one that a client
    got wrong is within its batch.
    """

    def __init__(
        self,
        source: SourceConfig,
        filters: Mapping[str, Callable[..., Any]] | None = None,
        variables: Mapping[str, Any] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`filters` are the plugins' template filters, `variables` the rules' `vars:`.

        Raises `ExpressionError` when something does not compile.
        """
        config = source.webhook
        assert config is not None
        expressions = Expressions(filters, ROOTS, variables or {})
        self._name = source.name
        self._scheme = config.verify.scheme
        self._verifier = Verifier(config.verify, now)
        self._when = None if config.when is None else expressions.condition(config.when)
        self._event = expressions.template(config.event, "event")
        self._keeps_payload = source.scrub is None

    def take(
        self, raw: bytes, headers: Mapping[str, str], query: Mapping[str, str], received_at: datetime
    ) -> Decoded | RejectedEvent | None:
        """What `accept` is to get, at the endpoint `batch`; or what to store instead; or None: `when` is false.

        `raw` are the exact bytes that were signed (what is compressed is inflated); names of `headers` are in small
        letters. Raises `BodyError`: 401 for a wrong signature, 400 for what is neither JSON nor a form. An event
        without a messageId gets one that is the same when the sender repeats itself.
        """
        self._verifier.check(raw, headers, query)
        body, mended = _read(raw, headers.get("content-type", ""))
        message_id = self._delivery_id(body, headers) or hashlib.sha256(raw).hexdigest()
        try:
            event = self.event_of(body, headers, query)
        except TemplateError as error:
            return self._reject(str(error), message_id, raw, received_at)
        return None if event is None else Decoded({"batch": [{"messageId": message_id, **event}]}, mended)

    def event_of(self, body: Any, headers: Mapping[str, str], query: Mapping[str, str]) -> dict[str, Any] | None:
        """What the mapping makes of a request that may be trusted; None: `when` is false. Raises `TemplateError`.

        It has a messageId where the mapping makes one, or the sender has an id for what it sends.
        """
        given = {"body": body, "headers": dict(headers), "query": dict(query)}
        if self._when is not None and not self._when(given, ""):
            return None
        event: dict[str, Any] = self._event(given, "")
        message_id = event.pop("messageId", None) or self._delivery_id(body, headers)
        return event | {"messageId": message_id} if message_id else event

    def _delivery_id(self, body: Any, headers: Mapping[str, str]) -> str:
        """The sender's id, the same when it repeats itself; empty without one."""
        known = [headers.get(name) for name in DELIVERY_IDS]
        if self._scheme == "stripe" and type(body) is dict:  # of its bodies, parts may change when it repeats itself
            known.insert(0, body.get("id"))
        for value in known:
            if type(value) is str and 0 < len(value) <= MAX_MESSAGE_ID and value.isprintable() and value.strip():
                return value
        return ""

    def _reject(self, why: str, message_id: str, raw: bytes, received_at: datetime) -> RejectedEvent:
        # Nobody else may have the body any more, and it may be needed to make the event of it after all.
        # The paths of `scrub` are those of events: nobody knows where in this body the same values stand.
        payload = raw.decode(errors="replace") if self._keeps_payload else ""
        code = "mapping_failed"
        return RejectedEvent(
            id=rejection_id(self._name, code, message_id, payload),
            source=self._name,
            received_at=write_time(utc(received_at)),
            code=code,
            message=f"the webhook's mapping failed: {why}",
            message_id=message_id,
            payload=payload,
        )


def read_query(query: bytes) -> dict[str, str]:
    """A request's query parameters; of repeated ones the last, none at all when there are too many."""
    try:
        return dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        return {}


def read_headers(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """A request's headers as texts; their names are in small letters already."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}


def _read(raw: bytes, content_type: str) -> Decoded:
    """JSON whatever the Content-Type says; a form as an object, or as what its only field `payload` holds (GitHub)."""
    if content_type.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded" and raw[:1] not in b"{[":
        fields = _read_form(raw)
        if fields.keys() == {"payload"} and type(fields["payload"]) is str:
            raw = fields["payload"].encode("utf-8", "surrogatepass")
        else:
            return Decoded(fields, {})
    value, mended = decode(raw)
    if depth(value) > MAX_DEPTH:
        raise BodyError("body_too_deep", f"the body is nested more than {MAX_DEPTH} levels deep")
    value, count = mend_text(value)
    return Decoded(value, {**mended, "not_unicode": count} if count else mended)


def _read_form(raw: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(raw.decode(errors="replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise BodyError("invalid_form", f"the body is a form of more than {MAX_FIELDS} fields") from None
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name not in fields:
            fields[name] = value
        elif type(fields[name]) is list:
            fields[name].append(value)
        else:
            fields[name] = [fields[name], value]
    return fields
