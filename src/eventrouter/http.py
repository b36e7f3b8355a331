"""The HTTP client of destinations: bounded, kept off private addresses, its errors already `Retry` or `Reject`."""

from __future__ import annotations

import asyncio
import email.utils
import ipaddress
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any

import msgspec
from multidict import CIMultiDict
from yarl import URL

from .errors import Reject, Retry, is_cancellation
from .threads import StoppedError, Threads

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.abc import ResolveResult

USER_AGENT = f"eventrouter/{metadata.version('eventrouter')}"
"""What every request says about its sender, unless its own headers do."""

MAX_CONNECTIONS = 64
"""Open connections per client, at most; a request beyond that waits, within its timeout."""

RESOLVERS = 2
"""Threads of a client that look up names, at most."""

MAX_BODY = 64 * 1024
"""Bytes of an answer that are kept; the rest is discarded, with its connection."""

MAX_RETRY_AFTER = 86_400.0
"""Seconds: a server that asks for more than a day gets a day."""

_PRIVATE_HINT = "set `allow_private: true` in the destination's options if that is meant"

_EMBEDDED_IPV4 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052: IPv4 behind a NAT64 gateway
_REFUSED = [
    ipaddress.ip_network("192.0.0.0/24"),  # RFC 6890: protocol assignments, Oracle's metadata; newer Pythons say so too
    ipaddress.ip_network("64:ff9b:1::/48"),  # RFC 8215: NAT64 into a local network; private for Python from 3.13 on
    ipaddress.ip_network("168.63.129.16/32"),  # Azure's host agent, which only its machines reach
]


def is_public(address: str) -> bool:
    """True when `address` (an IP address as text) is on the public internet.

    False for private, loopback, link-local (so cloud metadata), multicast, reserved, unspecified and shared (CGNAT)
    addresses, also when IPv6 only wraps one (mapped, 6to4, Teredo, NAT64). Source: IANA's special-purpose registries.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip.teredo is not None:
            inner = ip.teredo[1]
        if inner is None and ip in _EMBEDDED_IPV4:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip.is_site_local:
            return False
    if ip.is_multicast or ip.is_reserved or ip.is_unspecified or not ip.is_global:
        return False
    return not any(ip in network for network in _REFUSED)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `Retry-After` (a number or an HTTP date, RFC 9110 §10.2.3), from 0 to a day; None without."""
    text = next((value for name, value in headers.items() if name.lower() == "retry-after"), "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    if seconds != seconds:
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def is_http_url(url: str) -> bool:
    """True for an absolute http:// or https:// address that names a host: what `HttpClient` can send to."""
    try:
        _target(url)
    except Reject:
        return False
    return True


def to_json(value: Any) -> bytes:
    """`value` as JSON, integers exact. Raises `Reject` when it cannot be written as JSON."""
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise Reject(f"the payload cannot be written as JSON: {type(error).__name__}") from None


@dataclass(frozen=True, slots=True)
class Response:
    """A server's answer. `body` may be cut (`cut` says so); `headers` takes names in any case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=CIMultiDict)
    body: bytes = b""
    cut: bool = False

    @property
    def text(self) -> str:
        """The body as UTF-8; bytes that are none become U+FFFD."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON, integers exact. Raises `Retry` when it is not JSON (a proxy's page, say)."""
        try:
            return msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            why = "is longer than what is kept" if self.cut else "is not JSON"
            raise Retry(f"HTTP {self.status}: the answer {why}", status=self.status, response=self.text) from None


class HttpClient:
    """An HTTP client for one destination: no redirects, no cookies, no proxy from the environment, connections reused.

    Unless `allow_private`, it connects to public addresses only. What is checked is the very address that is about to
    be connected to, so neither a name that resolves differently the second time nor a literal address gets around it.
    Connections belong to the running event loop; `close` ends them.
    """

    def __init__(self, timeout: float = 10.0, allow_private: bool = False) -> None:
        """`timeout` (seconds) bounds a request from its start to the end of the answer."""
        self.timeout = timeout
        self.allow_private = allow_private
        self._session: aiohttp.ClientSession | None = None
        self._resolver = _Resolver()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def get(self, url: str, **options: Any) -> Response:
        """`request` with GET."""
        return await self.request("GET", url, **options)

    async def post(self, url: str, **options: Any) -> Response:
        """`request` with POST."""
        return await self.request("POST", url, **options)

    async def put(self, url: str, **options: Any) -> Response:
        """`request` with PUT."""
        return await self.request("PUT", url, **options)

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: Any = msgspec.UNSET,
        data: bytes | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 (a name that users of HTTP clients expect)
        max_body: int = MAX_BODY,
    ) -> Response:
        """Sends a request and returns the answer, whatever its status; its first `max_body` bytes are kept.

        `json` (any JSON value) or `data` is the body. Raises `Retry` when the server is not reached, does not answer in
        time or breaks off, and `Reject` for an address that is private or not http(s) and for what cannot be sent.
        Their reasons name host and port, never the rest of the address, headers or body.
        """
        import aiohttp  # here, since it takes a tenth of a second: a collector and most commands send nothing

        target, where = _target(url)
        seconds = self.timeout if timeout is None else timeout
        sent = CIMultiDict(headers or {})
        sent.setdefault("User-Agent", USER_AGENT)
        if json is not msgspec.UNSET:
            data = to_json(json)
            sent.setdefault("Content-Type", "application/json")
        # An address that accepts no connection is everyone's trouble; an answer that is late may be this request's own.
        limits = aiohttp.ClientTimeout(total=seconds, sock_connect=seconds * 0.8)
        try:
            async with self._open().request(
                method, target, headers=sent, data=data, timeout=limits, allow_redirects=False
            ) as answer:
                body, cut = await _read(answer, max_body)
                return Response(answer.status, answer.headers, body, cut)
        except asyncio.CancelledError as error:
            if is_cancellation(error):
                raise
            raise Retry(f"the request to {where} ended: the client was closed") from None
        except aiohttp.ConnectionTimeoutError:
            raise Retry(f"cannot connect to {where}: timeout after {limits.sock_connect:g} s", everyone=True) from None
        except TimeoutError:
            raise Retry(f"no answer from {where} within {seconds:g} s") from None
        except aiohttp.ClientConnectorDNSError:
            raise Retry(f"cannot resolve the name of {where}", everyone=True) from None
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            why = getattr(error, "verify_message", "") or getattr(error.__cause__, "verify_message", "") or "TLS fails"
            raise Retry(f"no secure connection to {where}: {why}", everyone=True) from None
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, _PrivateAddressError):
                reason = f"{where} is a private or local address: {_PRIVATE_HINT}"
                raise Reject(reason, everyone=True) from None
            why = os.strerror(error.os_error.errno) if error.os_error.errno else "no connection"
            raise Retry(f"cannot connect to {where}: {why}", everyone=True) from None
        except aiohttp.InvalidURL:
            raise Reject(f"{where} is not a valid address") from None
        except aiohttp.ClientError as error:
            raise Retry(f"the connection to {where} broke: {type(error).__name__}") from None
        except (ValueError, TypeError, LookupError) as error:
            raise Reject(f"the request to {where} cannot be written: {type(error).__name__}") from None

    async def close(self) -> None:
        """Ends all connections. The client may be used again afterwards."""
        session, self._session, self._loop = self._session, None, None
        if session is not None:
            await session.close()
        await self._resolver.close()

    def _open(self) -> aiohttp.ClientSession:
        """The session of the running event loop; a client that moves to another loop starts anew there."""
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            import aiohttp

            self._loop = loop
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=MAX_CONNECTIONS,
                    resolver=self._resolver,  # type: ignore[arg-type]
                    socket_factory=None if self.allow_private else _public_socket,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session


class _PrivateAddressError(OSError):
    """Stands for a connection that was not tried. All read the same, so that several addresses make one error."""

    def __init__(self) -> None:
        super().__init__("private address")


def _public_socket(info: tuple[Any, ...]) -> socket.socket:
    """A socket for `info` (as of getaddrinfo), whose address is the one that gets connected to."""
    family, kind, protocol, _, address = info
    if not is_public(address[0]):
        raise _PrivateAddressError
    return socket.socket(family, kind, protocol)


class _Resolver:
    """As aiohttp wants one. In threads of its own: a slow name server keeps no other's lookups waiting, nor an exit."""

    def __init__(self) -> None:
        self._threads: Threads | None = None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if self._threads is None:
            self._threads = Threads(RESOLVERS, "eventrouter-dns")
        try:
            found = await self._threads.run(
                lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
            )
        except StoppedError:
            raise OSError(None, "the client was closed") from None
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            {
                "hostname": host,
                "host": str(address[0]),
                "port": port,
                "family": kind,
                "proto": protocol,
                "flags": flags,
            }
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        threads, self._threads = self._threads, None
        if threads is not None:
            await threads.stop(0.0, lambda: None)


def _target(url: str) -> tuple[URL, str]:
    """`url` parsed, and its host and port for messages. Raises `Reject` for what is no http(s) address."""
    try:
        target = URL(url)
        port = target.port
    except ValueError:
        raise Reject("the address is not a valid URL") from None
    if target.scheme not in ("http", "https") or not target.host:
        raise Reject("the address must begin with http:// or https:// and name a host")
    host = f"[{target.host}]" if ":" in target.host else target.host
    return target, f"{host}:{port}"


async def _read(answer: aiohttp.ClientResponse, limit: int) -> tuple[bytes, bool]:
    """Up to `limit` bytes of the body, and whether there were more (then the connection is closed, not drained)."""
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > limit:
            answer.close()
            return bytes(body[:limit]), True
    return bytes(body), False
