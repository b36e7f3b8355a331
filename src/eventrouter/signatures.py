"""How a webhook source knows that what is posted to it comes from whom it says."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping

from standardwebhooks import Webhook

from .acceptance import BodyError
from .config_model import VerifyConfig

Check = Callable[[bytes, Mapping[str, str], Mapping[str, str]], str]
"""Gets body, headers (names in small letters) and query; says what is wrong, nothing when all is well."""


class Verifier:
    """Checks requests as one source's `verify:` says. All comparisons take the same time whatever they find."""

    def __init__(self, config: VerifyConfig, now: Callable[[], float] = time.time) -> None:
        self._config = config
        self._secrets = [secret.encode() for secret in config.secrets]
        self._now = now
        self._check = {
            "stripe": self._stripe,
            "github": self._github,
            "standard-webhooks": self._standard,
            "token": self._token,
            "none": _nothing,
        }[config.scheme]

    def check(self, body: bytes, headers: Mapping[str, str], query: Mapping[str, str]) -> None:
        """Raises `BodyError` (401) when the body's exact bytes, or the headers, are not the sender's."""
        if wrong := self._check(body, headers, query):
            raise BodyError("invalid_signature", wrong, status=401)

    def _stripe(self, body: bytes, headers: Mapping[str, str], query: Mapping[str, str]) -> str:
        parts = [part.strip().partition("=") for part in headers.get("stripe-signature", "").split(",")]
        times = [value for name, _, value in parts if name == "t"]
        signatures = [value for name, _, value in parts if name == "v1"]
        if len(times) != 1 or not (times[0].isascii() and times[0].isdigit()) or not signatures:
            return "the request has no valid Stripe-Signature"
        signed = times[0].encode() + b"." + body
        if not any(self._signed(signed, signature) for signature in signatures):
            return "the Stripe-Signature is not that of this body"
        if len(times[0]) > 15 or abs(self._now() - int(times[0])) > self._config.tolerance:
            return "the Stripe-Signature is too old"
        return ""

    def _github(self, body: bytes, headers: Mapping[str, str], query: Mapping[str, str]) -> str:
        algorithm, _, signature = headers.get("x-hub-signature-256", "").partition("=")
        if algorithm != "sha256":
            return "the request has no valid X-Hub-Signature-256"
        return "" if self._signed(body, signature) else "the X-Hub-Signature-256 is not that of this body"

    def _standard(self, body: bytes, headers: Mapping[str, str], query: Mapping[str, str]) -> str:
        for secret in self._config.secrets:
            try:
                Webhook(secret).verify(body, dict(headers), json_parse=False)
            except Exception:  # of any class, when headers or body are odd
                continue
            return ""
        return "the request has no valid webhook-signature, or one that is too old"

    def _token(self, body: bytes, headers: Mapping[str, str], query: Mapping[str, str]) -> str:
        config = self._config
        given = headers.get(config.header, "") if config.header else query.get(config.query, "")
        if config.header == "authorization":
            scheme, _, credentials = given.partition(" ")
            given = credentials.strip() if scheme.lower() == "bearer" else given
        tokens = [hmac.compare_digest(given.encode("utf-8", "surrogateescape"), secret) for secret in self._secrets]
        return "" if any(tokens) else "the request has not the token of this source"

    def _signed(self, data: bytes, signature: str) -> bool:
        given = signature.lower().encode("utf-8", "replace")
        digests = [hmac.new(secret, data, hashlib.sha256).hexdigest().encode() for secret in self._secrets]
        return any(hmac.compare_digest(digest, given) for digest in digests)


def is_standard_secret(secret: str) -> bool:
    """Whether it can be a secret of Standard Webhooks."""
    try:
        Webhook(secret)
    except Exception:  # of any class
        return False
    return True


def _nothing(body: bytes, headers: Mapping[str, str], query: Mapping[str, str]) -> str:
    return ""
