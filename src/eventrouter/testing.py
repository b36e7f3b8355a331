"""The kit for plugin authors: `make_message`, `FakeServer`, and the checks that every destination has to pass."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel

from .attempts import Attempts, Bug
from .destination import Destination, Message, Outcome
from .errors import Reject, Retry
from .events import idempotency_key, lane_key, order_key
from .fake_server import Answer, FakeServer, Received
from .masking import secrets_of

__all__ = ["Answer", "DestinationContract", "FakeServer", "Received", "attempt", "make_message"]

SECRET_NAME = re.compile(r"secret|token|password|passwd|api_?key|private_?key|credential", re.IGNORECASE)
"""A field so named holds a secret."""
PART = 8
"""So many characters of a secret are a good part of it."""


def make_message(
    payload: Any = None,
    *,
    type: str = "track",  # noqa: A002 (the word of the wire)
    source: str = "website",
    message_id: str = "message-1",
    destination: str = "test",
    attempt: int = 1,
    **fields: Any,
) -> Message:
    """A message as a worker would hand it over. Without `payload` it carries an event of `type` with `fields` added."""
    event: dict[str, Any] = {
        "type": type,
        "messageId": message_id,
        "anonymousId": "anonymous-1",
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()),
        **({"event": "Order Completed", "properties": {"total": 12.5}} if type == "track" else {}),
        **fields,
    }
    return Message(
        id=idempotency_key(source, message_id, destination),
        payload=event if payload is None else payload,
        message_id=message_id,
        source=source,
        type=type,
        order_key=lane_key(order_key(event)),
        timestamp=event["timestamp"],
        attempt=attempt,
    )


async def attempt(destination: Destination, messages: Sequence[Message]) -> dict[str, Outcome | None]:
    """One attempt as the router makes it: each message's id with its outcome, None for delivered.

    What the router takes for the plugin's bug is raised: an exception other than `Retry`, `Reject` and those of the
    network, or an answer that is none.
    """
    found = await Attempts(destination, destination.timeout).call(messages)
    if isinstance(found, Bug):
        if isinstance(found.error, Exception):
            raise found.error
        raise AssertionError(f"deliver() ended with {found}") from found.error
    return {one.id: found.get(one.id) if isinstance(found, Mapping) else found for one in messages}


class DestinationContract:
    """The checks that every destination passes. Subclass it in a test file, under a name that begins with `Test`:

        class TestAcme(DestinationContract):
            destination = Acme

            def options(self, url):
                return {"url": url, "api_key": "s3cr3t-key"}

    The tests need no pytest plugin. `url` is a `FakeServer`'s: the destination needs an option that points it there.
    """

    destination: ClassVar[type[Destination]]
    """The class under test."""
    success: ClassVar[Answer] = Answer()
    """How the service says that all went well."""

    def options(self, url: str) -> dict[str, Any]:
        """Valid `options:` that send to `url`, each secret with a value of its own (8 characters or more)."""
        raise TypeError(f"{type(self).__name__} does not define options()")

    def messages(self) -> list[Message]:
        """Messages that the destination delivers; two by default, of two order keys, where it takes two."""
        first = make_message(message_id="message-1", anonymousId="anonymous-1")
        second = make_message(message_id="message-2", anonymousId="anonymous-2")
        return [first, second][: self.destination.default_batch_size or self.destination.batch_size]

    def make(self, url: str, **changes: Any) -> Destination:
        """The destination under test, sending to `url`; `changes` replace options."""
        options = {"allow_private": True, "timeout": 5.0, **self.options(url), **changes}
        return self.destination(self.destination.Options.model_validate(options))

    def outcomes(self, answer: Answer, **changes: Any) -> tuple[list[Outcome | None], list[Received]]:
        """The outcome of each message when the service answers with `answer`, and what the service got."""
        with FakeServer(answer) as server:
            outcomes = asyncio.run(self._attempt(server.url, changes))
            return outcomes, server.received

    async def _attempt(self, url: str, changes: dict[str, Any]) -> list[Outcome | None]:
        destination = self.make(url, **changes)
        try:
            await destination.start()
            return list((await attempt(destination, self.messages())).values())
        finally:
            await destination.close()

    def test_the_class_describes_itself(self) -> None:
        assert re.fullmatch(r"[a-z][a-z0-9_-]*", self.destination.name), "`name` is lower-case, as in routes.yaml"
        assert (self.destination.__doc__ or "").strip(), "the class needs a docstring: `eventrouter plugins` shows it"
        assert self.destination.batch_size >= 1

    def test_each_option_has_a_description_and_secrets_are_secret(self) -> None:
        for path, annotation, description in _fields(self.destination.Options):
            assert description, f"option `{path}` needs Field(description=…)"
            if SECRET_NAME.search(path):
                assert "SecretStr" in str(annotation), f"option `{path}` holds a secret: make it a SecretStr"

    def test_what_the_service_accepts_is_delivered(self) -> None:
        outcomes, received = self.outcomes(self.success)
        assert outcomes == [None] * len(self.messages())
        assert received, "nothing was sent"

    def test_a_rate_limit_is_a_retry_at_the_named_time(self) -> None:
        outcomes, _ = self.outcomes(Answer(429, headers={"Retry-After": "7"}))
        assert [(type(outcome), getattr(outcome, "after", None)) for outcome in outcomes] == [(Retry, 7.0)] * len(
            outcomes
        )

    def test_a_failing_service_is_a_retry(self) -> None:
        for status in (500, 502, 503):
            outcomes, _ = self.outcomes(Answer(status))
            assert [type(outcome) for outcome in outcomes] == [Retry] * len(outcomes), f"HTTP {status}"

    def test_a_refusal_is_a_reject_with_a_reason(self) -> None:
        for status in (400, 401, 403, 404, 410):
            outcomes, _ = self.outcomes(Answer(status))
            assert [type(outcome) for outcome in outcomes] == [Reject] * len(outcomes), f"HTTP {status}"
            assert all(outcome is not None and outcome.reason for outcome in outcomes), "a Reject needs a reason"
            if status == 401:
                known = all(
                    outcome and (outcome.status == 401 or getattr(outcome, "everyone", False)) for outcome in outcomes
                )
                assert known, "who passes no `status=` on turns events into dead letters when the key is wrong"

    def test_a_redirect_is_a_reject(self) -> None:
        outcomes, received = self.outcomes(Answer(302, headers={"Location": "/elsewhere"}))
        assert [type(outcome) for outcome in outcomes] == [Reject] * len(outcomes)
        assert not [request for request in received if request.path == "/elsewhere"], "a redirect was followed"

    def test_a_late_answer_is_a_retry(self) -> None:
        outcomes, _ = self.outcomes(Answer(delay=30), timeout=0.2)
        assert [type(outcome) for outcome in outcomes] == [Retry] * len(outcomes)

    def test_an_attempt_that_is_cancelled_ends(self) -> None:
        async def cancel() -> bool:
            with FakeServer(Answer(delay=30)) as server:
                task = asyncio.create_task(self._attempt(server.url, {"timeout": 20.0}))
                for _ in range(500):
                    await asyncio.sleep(0.01)
                    if server.received:
                        break
                task.cancel()
                await asyncio.wait({task}, timeout=5.0)
                return task.done() and task.cancelled()

        assert asyncio.run(cancel()), "deliver() keeps CancelledError to itself: a worker that ends would wait for it"

    def test_a_service_that_is_away_is_a_retry_for_everyone(self) -> None:
        with FakeServer() as server:
            url = server.url
        outcomes = asyncio.run(self._attempt(url, {}))
        assert [(type(outcome), getattr(outcome, "everyone", None)) for outcome in outcomes] == [(Retry, True)] * len(
            outcomes
        )

    def test_a_private_address_is_refused_unless_allowed(self) -> None:
        outcomes, received = self.outcomes(self.success, allow_private=False)
        assert [type(outcome) for outcome in outcomes] == [Reject] * len(outcomes)
        assert received == []

    def test_secrets_stay_out_of_errors_and_representations(self) -> None:
        destination = self.make("http://127.0.0.1:9")
        texts = [repr(destination), repr(destination.options), str(destination.options)]
        texts += [str(request) for request in destination.requests(self.messages())]
        for answer in (Answer(400), Answer(429), Answer(500), Answer(delay=30)):
            outcomes, _ = self.outcomes(answer, timeout=0.2)
            texts += [f"{outcome!r} {outcome} {outcome.reason} {outcome.response}" for outcome in outcomes if outcome]
        _check_secrets(destination, texts)

    def test_secrets_that_the_service_sends_back_stay_out_of_dead_letters(self) -> None:
        for status in (400, 401, 500):
            with FakeServer(Answer(status, echo=True)) as server:
                destination = self.make(server.url)
                mask = Attempts(destination, destination.timeout).mask
                outcomes = asyncio.run(self._attempt(server.url, {}))
            texts = [f"{mask(outcome.reason)} {mask(outcome.response)}" for outcome in outcomes if outcome]
            _check_secrets(destination, texts)

    def test_requests_shows_what_deliver_sends(self) -> None:
        with FakeServer(self.success) as server:
            shown = self.make(server.url).requests(self.messages())
            asyncio.run(self._attempt(server.url, {}))
        if shown:  # a destination may leave requests() out, and may send several at a time
            assert sorted((request.method, request.body) for request in shown) == sorted(
                (request.method, request.body.decode()) for request in server.received
            )


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any, str | None]]:
    """Each option of `model` with its type and description, nested models included."""
    for name, field in model.model_fields.items():
        yield prefix + name, field.annotation, field.description
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _fields(field.annotation, f"{prefix}{name}.")


def _check_secrets(destination: Destination, texts: Sequence[str]) -> None:
    """No text shows a secret of the options, nor a good part of one, which a cut may have left."""
    for secret in secrets_of(destination.options):
        parts = {secret[first : first + PART] for first in range(max(len(secret) - PART, 0) + 1)}
        assert not [text for text in texts if any(part in text for part in parts)], (
            "a secret of the options can be read"
        )
