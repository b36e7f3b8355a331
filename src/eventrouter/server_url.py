"""Addresses of Redis or Valkey: one server, the one that Sentinel knows, or a Cluster.

    redis://[user:password@]host[:6379][/database][?option=value…]             rediss:// with TLS, unix:///path
    redis+sentinel://[user:password@]host[:26379][,host…]/SERVICE[/database]   rediss+sentinel://
    redis+cluster://[user:password@]host[:6379][,host…]                        rediss+cluster://

Options are those of redis-py's own URLs, such as `ssl_ca_certs`. User and password are the servers'; Sentinels that ask
for some get `sentinel_username` and `sentinel_password`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlencode

KINDS: dict[str, Literal["one", "sentinel", "cluster"]] = {"": "one", "+sentinel": "sentinel", "+cluster": "cluster"}
PORTS = {"one": 6379, "sentinel": 26379, "cluster": 6379}
_URL = re.compile(r"(?i:(rediss?)(\+sentinel|\+cluster)?)://(?:([^/?#]*)@)?([^/?#@]*)(/[^?#]*)?(?:\?([^#]*))?")
_HOST = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]\s]+))(?::(\d{1,5}))?")
_OF_SENTINELS = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True)
class ServerUrl:
    """An address, read. Its `repr` shows no secret."""

    kind: Literal["one", "sentinel", "cluster"]
    nodes: tuple[tuple[str, int], ...]
    """Host and port of each Sentinel, or of some nodes of the Cluster; none of `one` server."""
    service: str
    """The name under which the Sentinels know the servers."""
    plain: str = field(repr=False)
    """A URL that redis-py reads: of the server, else of the first node, with the user, password and options of all."""
    sentinel_options: dict[str, str] = field(repr=False)
    """`username` and `password` of the Sentinels, where they are given."""
    secrets: tuple[str, ...] = field(repr=False)
    """What must not be shown, as it is written and as it is meant."""

    @classmethod
    def parse(cls, text: str) -> ServerUrl:
        """Raises `ValueError`, whose text says what is wrong without showing a secret."""
        if text.startswith("unix://"):
            return cls("one", (), "", text, {}, tuple(_secrets("", text.partition("?")[2])))
        match = _URL.fullmatch(text)
        if match is None:
            raise ValueError("is not the URL of a Redis or Valkey server")
        scheme, suffix, user, hosts, path, query = (part or "" for part in match.groups())
        kind, secrets = KINDS[suffix.lower()], tuple(_secrets(user, query))
        if kind == "one":
            return cls(kind, (), "", text, {}, secrets)
        nodes = tuple(_node(host, PORTS[kind]) for host in hosts.split(","))
        parts = [unquote(part) for part in path.split("/") if part]
        service = ""
        if kind == "sentinel":
            if not parts:
                raise ValueError("does not name the service that the Sentinels watch: …/SERVICE, such as …/mymaster")
            service, *parts = parts
        if len(parts) > 1 or not all(part.isdigit() for part in parts):
            raise ValueError("has something else than a database's number at its end")
        if kind == "cluster" and any(int(part) for part in parts):
            raise ValueError("names a database: a Cluster has one, without a number")
        options = parse_qsl(query)
        host, port = nodes[0]
        own = urlencode([(name, value) for name, value in options if name not in _OF_SENTINELS])
        plain = (
            f"{scheme.lower()}://{f'{user}@' if user else ''}{f'[{host}]' if ':' in host else host}:{port}"
            f"/{''.join(parts)}{f'?{own}' if own else ''}"
        )
        of_sentinels = {name.removeprefix("sentinel_"): value for name, value in options if name in _OF_SENTINELS}
        return cls(kind, nodes, service, plain, of_sentinels, secrets)


def _node(text: str, port: int) -> tuple[str, int]:
    match = _HOST.fullmatch(text)
    if match is None or not 0 < int(match[3] or port) < 65536:
        raise ValueError("has a host that can't be read: write host:port,host:port")
    return match[1] or match[2], int(match[3] or port)


def _secrets(user: str, query: str) -> Iterator[str]:
    found = [user.partition(":")[2], *(value for name, value in parse_qsl(query) if name.endswith("password"))]
    for secret in filter(None, found):
        yield secret
        if unquote(secret) != secret:
            yield unquote(secret)
