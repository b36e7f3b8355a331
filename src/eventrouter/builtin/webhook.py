"""The destination `webhook`: posts events as JSON to an address, with the headers of Standard Webhooks."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from standardwebhooks import Webhook as Signer

from ..destination import Destination, Message, Outcome, Request, check_response
from ..hookspecs import hookimpl
from ..http import USER_AGENT, is_http_url
from ..masking import MASK

OWN_HEADERS = frozenset(
    {
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "content-length",
        "transfer-encoding",
        "connection",
        "host",
    }
)
"""Headers that `headers:` cannot set: they would contradict the request."""

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]*")


class Webhook(Destination):
    """Posts one JSON object per event, or with `batch.size` above 1 an array of them, signed by Standard Webhooks.

    `webhook-id` is the same at every attempt: a receiver that remembers it sees each event once. A batch repeats as it
    was. Any 2xx answer means delivered.
    """

    name: ClassVar[str] = "webhook"
    batch_size: ClassVar[int] = 1000
    default_batch_size: ClassVar[int | None] = 1
    pin_batches: ClassVar[bool] = True
    keeps_order: ClassVar[bool] = True

    class Options(Destination.Options):
        """Where to post, and how the receiver knows that it was us."""

        url: str = Field(repr=False, description="Address that the events are posted to, http:// or https://.")
        method: Literal["POST", "PUT", "PATCH"] = Field(default="POST", description="HTTP method of the requests.")
        headers: dict[str, SecretStr] = Field(
            default_factory=dict, description="Further headers of each request, such as Authorization."
        )
        secret: SecretStr | None = Field(
            default=None,
            description="Signs by Standard Webhooks: `whsec_` and the key in base64, or the key as plain text.",
        )

        @field_validator("url")
        @classmethod
        def _is_http(cls, value: str) -> str:
            if not is_http_url(value):
                raise ValueError("must begin with http:// or https:// and name a host")
            return value

        @field_validator("headers")
        @classmethod
        def _are_headers(cls, value: dict[str, SecretStr], info: ValidationInfo) -> dict[str, SecretStr]:
            has_user = "@" in urlsplit(info.data.get("url", "")).netloc
            for name, text in value.items():
                if not _NAME.fullmatch(name):
                    raise ValueError(f"{name!r} is not a header name")
                if name.lower() in OWN_HEADERS:
                    raise ValueError(f"{name!r} is set by the webhook itself")
                if has_user and name.lower() == "authorization":
                    raise ValueError(f"{name!r} and the user and password in `url` can't both be sent: leave one out")
                if not _VALUE.fullmatch(text.get_secret_value()):
                    raise ValueError(f"the value of {name!r} has a line break or a control character")
            return value

        @field_validator("secret")
        @classmethod
        def _is_key(cls, value: SecretStr | None) -> SecretStr | None:
            if value is None or not value.get_secret_value():
                return None
            if not _key(value.get_secret_value()):
                raise ValueError("what follows `whsec_` is not base64: take the secret as the receiver shows it")
            return value

    options: Options

    def __init__(self, options: Options, *, destination: str = "", batch_size: int | None = None) -> None:
        super().__init__(options, destination=destination, batch_size=batch_size)
        secret = options.secret
        self._signer = Signer(_key(secret.get_secret_value())) if secret is not None else None
        self._headers = {name.lower(): value.get_secret_value() for name, value in options.headers.items()}

    async def deliver(self, messages: Sequence[Message]) -> Mapping[str, Outcome] | None:
        body = self._body(messages)
        headers = self._standard_headers(messages, body) | self._headers
        response = await self.http.request(self.options.method, self.options.url, headers=headers, data=body)
        check_response(response)
        return None

    def requests(self, messages: Sequence[Message]) -> list[Request]:
        body = self._body(messages)
        headers = self._standard_headers(messages, body) | dict.fromkeys(self._headers, MASK)
        url = urlsplit(self.options.url)
        url = url._replace(netloc=url.netloc.rpartition("@")[2])
        return [Request(self.options.method, url.geturl(), headers, body.decode())]

    def _body(self, messages: Sequence[Message]) -> bytes:
        """The shape depends on the configuration alone, so that a receiver never meets the other one."""
        if self.configured_batch_size > 1 or len(messages) > 1:
            return b"[%b]" % b",".join([message.json for message in messages])
        return messages[0].json

    def _standard_headers(self, messages: Sequence[Message], body: bytes) -> dict[str, str]:
        now = datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "user-agent": USER_AGENT,
            "webhook-id": batch_id(messages),
            "webhook-timestamp": str(int(now.timestamp())),
        }
        if self._signer is not None:
            headers["webhook-signature"] = self._signer.sign(headers["webhook-id"], now, body.decode())
        return headers


def batch_id(messages: Sequence[Message]) -> str:
    """The id of one message, or one made of the ids of several, the same for the same messages in the same order."""
    if len(messages) == 1:
        return messages[0].id
    text = "\0".join(message.id for message in messages)
    return "msg_" + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _key(secret: str) -> bytes:
    """The signing key: base64 after `whsec_` (empty bytes when it is none), else the text itself."""
    if not secret.startswith("whsec_"):
        return secret.encode()
    text = secret.removeprefix("whsec_")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


@hookimpl
def register_destinations() -> Sequence[type[Destination]]:
    return [Webhook]
