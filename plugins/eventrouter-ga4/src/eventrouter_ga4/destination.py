"""The destination `ga4`: sends hits to Google, as many in a request as may share one."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, ClassVar
from urllib.parse import urlencode

from pydantic import Field, SecretStr, field_validator

from eventrouter.destination import Destination, Message, Outcome, Request, check_response
from eventrouter.errors import Reject, Retry
from eventrouter.http import is_http_url, to_json
from eventrouter.options import OptionDuration

from . import limits
from .hits import Hit, Rules, hit

ROOM_FOR_VISITOR = 20_000
"""Bytes, generously: what a request says once, ids, consent and 25 user properties."""


class Part:
    """What goes out in one request: hits that share client, user and consent, and the messages they came from."""

    def __init__(self, messages: list[Message], hits: list[Hit]) -> None:
        self.messages = messages
        self.hits = hits
        first = hits[0]
        self.content: dict[str, Any] = {"client_id": first.client_id}
        if first.user_id is not None:
            self.content["user_id"] = first.user_id
        if first.consent:
            self.content["consent"] = first.consent
        traits = {name: value for one in hits for name, value in one.user_properties.items()}
        if traits:
            self.content["user_properties"] = dict(list(traits.items())[: limits.MAX_USER_PROPERTIES])
        self.content["events"] = [one.event for one in hits]
        self.body = to_json(self.content)

    def alone(self) -> list[Part]:
        """Each hit in a request of its own."""
        return [Part([message], [one]) for message, one in zip(self.messages, self.hits, strict=True)]


class Ga4(Destination):
    """Tells Google Analytics 4 of page views, screens and events by the Measurement Protocol.

    Segment's e-commerce events get Google's names; all names and values are made to fit Google's limits. Google answers
    2xx to whatever it gets and doesn't tell what it drops: `validate: true` asks its validation server first.
    """

    name: ClassVar[str] = "ga4"
    batch_size: ClassVar[int] = limits.MAX_EVENTS
    keeps_order: ClassVar[bool] = True

    class Options(Destination.Options):
        """Which data stream, and how events are told."""

        measurement_id: str = Field(pattern=r"^G-[A-Z0-9]+$", description="The data stream's measurement id, G-….")
        api_secret: SecretStr = Field(
            min_length=1, description="A Measurement Protocol API secret of that stream (Admin > Data streams)."
        )
        url: str = Field(
            default="https://www.google-analytics.com",
            description="Google's server; https://region1.google-analytics.com collects in the EU.",
        )
        check_events: bool = Field(
            default=False,
            alias="validate",
            description="Ask Google's validation server before each request, and refuse the events that it objects to.",
        )
        currency: str | None = Field(
            default=None, pattern=r"^[A-Z]{3}$", description="The currency of events that name none, such as EUR."
        )
        identify_event: str = Field(
            default="identify", min_length=1, description="The event that carries the user properties of an identify."
        )
        session_window: OptionDuration = Field(
            default=1800.0,
            ge=0,
            le=86_400,
            description="How long events without a session id of Google's share a session; 0: no session.",
        )
        consent_category: str | None = Field(
            default=None, description="The consent category that stands for ad_user_data and ad_personalization."
        )
        personal: bool = Field(
            default=False, description="Send names, e-mail addresses and the like too, which Google's terms forbid."
        )

        @field_validator("url")
        @classmethod
        def _is_http(cls, value: str) -> str:
            if not is_http_url(value):
                raise ValueError("must begin with http:// or https:// and name a host")
            return value.rstrip("/")

    options: Options

    def __init__(self, options: Options, *, destination: str = "", batch_size: int | None = None) -> None:
        super().__init__(options, destination=destination, batch_size=batch_size)
        self._rules = Rules(
            currency=options.currency,
            identify_event=options.identify_event,
            session_window=options.session_window,
            consent_category=options.consent_category,
            personal=options.personal,
        )

    async def deliver(self, messages: Sequence[Message]) -> Mapping[str, Outcome] | None:
        refused, chains = self._chains(messages)
        for outcomes in await asyncio.gather(*(self._send_in_order(chain) for chain in chains)):
            refused |= outcomes
        retries = [outcome for outcome in refused.values() if isinstance(outcome, Retry)]
        if retries and len(retries) == len(messages):
            raise max(retries, key=lambda retry: (retry.everyone, retry.after or 0.0))
        return refused

    def requests(self, messages: Sequence[Message]) -> list[Request]:
        refused, chains = self._chains(messages)
        if refused and not chains:
            raise next(iter(refused.values()))
        url = self._url(secret="**********")
        headers = {"content-type": "application/json"}
        return [Request("POST", url, headers, part.body.decode()) for chain in chains for part in chain]

    def _chains(self, messages: Sequence[Message]) -> tuple[dict[str, Outcome], list[list[Part]]]:
        """What is refused at once, and for each order key its requests, which go out one after the other."""
        refused: dict[str, Outcome] = {}
        by_key: dict[str, list[tuple[Message, Hit]]] = {}
        now = time.time()
        for message in messages:
            try:
                made = hit(message, self._rules, now)
                _shrink(made.event)
                by_key.setdefault(message.order_key, []).append((message, made))
            except Reject as error:
                refused[message.id] = error
        return refused, [list(_parts(pairs)) for pairs in by_key.values()]

    async def _send_in_order(self, chain: list[Part]) -> dict[str, Outcome]:
        """Sends `chain`; after a `Retry` the rest waits too, so that nothing overtakes.

        Of a request that is refused each hit goes alone, in order: only the one at fault shall not arrive.
        """
        outcomes: dict[str, Outcome] = {}
        waiting: Retry | None = None
        rest = deque(chain)
        while rest:
            part = rest.popleft()
            if waiting is None:
                try:
                    outcomes |= await self._send(part)
                except Retry as error:
                    waiting = error
                except Reject as error:
                    if len(part.hits) > 1:
                        rest.extendleft(reversed(part.alone()))
                        continue
                    outcomes[part.messages[0].id] = error
            if waiting is not None:
                outcomes |= dict.fromkeys((message.id for message in part.messages), waiting)
        return outcomes

    async def _send(self, part: Part) -> dict[str, Outcome]:
        """Sends one request; returns what Google's validation objects to. Raises `Retry` or `Reject` for all of it."""
        objections: dict[str, Outcome] = {}
        if self.options.check_events and (found := await self._objections(part)):
            if len(part.hits) == 1:
                raise Reject(f"Google's validation objects: {found}")
            # Which of them is meant is told in prose only: each is asked for alone.
            for one in part.alone():
                if why := await self._objections(one):
                    objections[one.messages[0].id] = Reject(f"Google's validation objects: {why}")
            kept = [pair for pair in zip(part.messages, part.hits, strict=True) if pair[0].id not in objections]
            if not kept:
                return objections
            part = Part([message for message, _ in kept], [one for _, one in kept])
        check_response(await self._post(self._url(), part.body))
        return objections

    async def _objections(self, part: Part) -> str:
        """What Google's validation server says about `part`; empty when all is well."""
        body = to_json({**part.content, "validation_behavior": "ENFORCE_RECOMMENDATIONS"})
        response = await self._post(self._url("/debug/mp/collect"), body)
        check_response(response)
        answer = response.json()
        found = answer.get("validationMessages") if isinstance(answer, dict) else None
        texts = [str(entry.get("description", entry)) for entry in found or [] if isinstance(entry, dict)]
        return "; ".join(texts)[:1000]

    async def _post(self, url: str, body: bytes) -> Any:
        return await self.http.post(url, data=body, headers={"content-type": "application/json"})

    def _url(self, path: str = "/mp/collect", secret: str | None = None) -> str:
        key = secret or self.options.api_secret.get_secret_value()
        query = urlencode({"measurement_id": self.options.measurement_id, "api_secret": key}, safe="*")
        return f"{self.options.url}{path}?{query}"


def _parts(pairs: list[tuple[Message, Hit]]) -> Iterator[Part]:
    """`pairs` in as few requests as Google's rules and their order allow."""
    for _, run in groupby(pairs, key=lambda pair: pair[1].same):
        rest = list(run)
        while rest:
            count = min(len(rest), limits.MAX_EVENTS)
            part = _part(rest[:count])
            while len(part.body) > limits.MAX_BODY and count > 1:
                count = (count + 1) // 2
                part = _part(rest[:count])
            yield part
            rest = rest[count:]


def _part(pairs: list[tuple[Message, Hit]]) -> Part:
    return Part([message for message, _ in pairs], [one for _, one in pairs])


def _shrink(event: dict[str, Any]) -> None:
    """Takes items off until the event fits in a request: nothing else of it can be so long."""
    params = event["params"]
    while "items" in params and len(to_json(event)) > limits.MAX_BODY - ROOM_FOR_VISITOR:
        params["items"] = params["items"][: len(params["items"]) * 9 // 10]
        if not params["items"]:
            del params["items"]
