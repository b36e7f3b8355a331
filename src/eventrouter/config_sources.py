"""Reads `sources:` and `collect:` of routes.yaml."""

from __future__ import annotations

import re
from ipaddress import ip_network
from urllib.parse import urlsplit

from . import quantities
from .config_model import CollectConfig, CookieConfig, ScrubConfig, SourceConfig
from .config_reader import Reader
from .config_webhooks import read_webhook
from .paths import PathError
from .scrub import check_path
from .yaml_file import ListNode, MapNode, Node, Scalar

SOURCE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
KEYS = ("write_key", "write_keys", "enabled", "origins", "rate_limit", "scrub", "cookie", "webhook")

MIN_SALT = 16
"""Characters. Whoever guesses the salt finds addresses again by trying."""
MAX_COOKIE_AGE = 400 * 86_400.0
"""Browsers keep no cookie for longer."""

_WRITE_KEY = re.compile(r"[!-9;-~]{1,128}\Z")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\*\.)?(\[[0-9a-f:.]+\]|[^\s/*?#@:\[\]]+)(:[0-9]{1,5})?\Z")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+\Z")
_COOKIE_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}\Z")
_DOMAIN = re.compile(r"\.?[a-z0-9-]+(\.[a-z0-9-]+)*\Z")


def read_sources(reader: Reader, node: Node | None, owners: dict[str, str]) -> dict[str, SourceConfig]:
    """`sources:` of a file; a write key belongs to one source: `owners` are those of the files before."""
    sources: dict[str, SourceConfig] = {}
    if node is None or (isinstance(node, Scalar) and node.value is None):
        reader.problem(node, "there are no sources", "add `sources: { website: { write_key: … } }`")
    for name, value in reader.mapping(node, "`sources`").items():
        key = node.keys[name] if isinstance(node, MapNode) else None
        if not SOURCE_NAME.match(name):
            reader.problem(key, f"`{name}` is not a name for a source", "1 to 64 letters, digits, _ and -")
        settings = reader.mapping(value, f"the source `{name}`", KEYS)
        sources[name] = SourceConfig(
            name,
            _write_keys(reader, name, key, settings, owners),
            reader.flag(settings.get("enabled"), "`enabled`", True),
            _origins(reader, settings["origins"]) if "origins" in settings else None,
            _rate_limit(reader, settings.get("rate_limit")),
            _scrub(reader, settings.get("scrub")),
            _cookie(reader, settings.get("cookie")),
            read_webhook(reader, settings["webhook"]) if "webhook" in settings else None,
        )
    return sources


def _write_keys(
    reader: Reader, name: str, key: Scalar | None, settings: dict[str, Node], owners: dict[str, str]
) -> tuple[str, ...]:
    nodes = [*reader.items(settings.get("write_key")), *reader.items(settings.get("write_keys"))]
    if not nodes and "webhook" not in settings:
        reader.problem(key, f"the source `{name}` has no write key", "add `write_key: …`")
    keys: list[str] = []
    for item in nodes:
        text = reader.text(item, "`write_key`")
        if text is None:
            continue
        if not _WRITE_KEY.match(text):
            hint = "1 to 128 characters of ASCII without space and colon"
            reader.problem(item, f"the write key of `{name}` is not valid", hint)
        elif text in owners:
            where = "twice" if owners[text] == name else f"by the source `{owners[text]}`, too"
            reader.problem(item, f"a write key of `{name}` is used {where}", "each source needs keys of its own")
        else:
            owners[text] = name
            keys.append(text)
    return tuple(keys)


def _origins(reader: Reader, node: Node) -> tuple[str, ...]:
    origins = []
    for item in reader.items(node):
        text = reader.text(item, "`origins`")
        if text is None:
            continue
        origin = text.lower()
        if origin == "null" or _ORIGIN.match(origin):
            origins.append(origin)
        else:
            hint = "write `https://shop.example` or `https://*.shop.example`: no path, no slash at its end"
            if text == "*":
                hint = "leave `origins` out: then pages of any origin may send"
            reader.problem(item, "`origins` holds something that is not an origin", hint)
    if isinstance(node, ListNode) and not node.items:
        reader.problem(node, "`origins` must not be an empty list", "leave it out: then pages of any origin may send")
    return tuple(origins)


def _rate_limit(reader: Reader, node: Node | None) -> float | None:
    limit = reader.quantity(node, "`rate_limit`", None, quantities.rate)
    return None if limit is None else limit.count / limit.per_seconds


def _scrub(reader: Reader, node: Node | None) -> ScrubConfig | None:
    if node is None:
        return None
    settings = reader.mapping(node, "`scrub`", ("remove", "hash", "query", "salt"), needed=True)
    salt_node = settings.get("salt")
    if salt_node is not None:
        reader.secret(salt_node)
    elif "hash" in settings:
        hint = 'add `salt: "${SCRUB_SALT}"`: without a secret, addresses can be found again by trying'
        reader.problem(settings["hash"], "`scrub` has no `salt`", hint)
    salt = reader.text(salt_node, "`scrub.salt`") or ""
    if salt and len(salt) < MIN_SALT:
        hint = f"at least {MIN_SALT} characters that nobody guesses, as `openssl rand -hex 16` makes them"
        reader.problem(salt_node, "`scrub.salt` is too short", hint)
    if isinstance(node, MapNode) and not settings.keys() & {"remove", "hash", "query"}:
        reader.problem(node, "`scrub` does nothing", "name fields under `remove`, `hash` or `query`")
    seen: dict[str, str] = {}
    read: dict[str, tuple[str, ...]] = {}
    for what in ("remove", "hash"):
        for item in reader.items(settings.get(what)):
            text = reader.text(item, f"`scrub.{what}`")
            if text is None:
                continue
            try:
                check_path(text, what)
                if text in seen:
                    raise ValueError(f"stands under `{seen[text]}` already")
            except ValueError as error:
                shown = "the path" if isinstance(item, Scalar) and item.variables else f"`{text}`"
                hint = error.hint if isinstance(error, PathError) else ""
                reader.problem(item, f"`scrub.{what}`: {shown} {error}", hint)
                continue
            seen[text] = what
            read[what] = (*read.get(what, ()), text)
    query = reader.texts(settings.get("query"), "`scrub.query`")
    return ScrubConfig(read.get("remove", ()), read.get("hash", ()), query, salt)


def _cookie(reader: Reader, node: Node | None) -> CookieConfig | None:
    default = CookieConfig()
    if node is None or isinstance(node, Scalar):
        return default if reader.flag(node, "`cookie`", False) else None
    settings = reader.mapping(node, "`cookie`", ("name", "domain", "max_age"))
    name = default.name
    if "name" in settings:
        name = reader.text(settings["name"], "`cookie.name`") or name
        if not _COOKIE_NAME.match(name):
            hint = "1 to 64 letters, digits, _ and -"
            reader.problem(settings["name"], "`cookie.name` is not a name for a cookie", hint)
    domain = default.domain
    if "domain" in settings:
        domain = (reader.text(settings["domain"], "`cookie.domain`") or domain).lower()
        if domain and not _DOMAIN.match(domain):
            reader.problem(settings["domain"], "`cookie.domain` is not a domain", "write `.shop.example`")
    age = reader.quantity(settings.get("max_age"), "`cookie.max_age`", default.max_age, quantities.duration, 1)
    if age > MAX_COOKIE_AGE:
        reader.problem(settings["max_age"], "`cookie.max_age` is too long", "browsers keep no cookie beyond 400d")
    return CookieConfig(name, domain, age)


def read_collect(reader: Reader, node: Node | None) -> CollectConfig:
    """`collect:`."""
    settings = reader.mapping(node, "`collect`", ("path_prefix", "public_url", "trusted_proxies", "spool"))
    spool = reader.mapping(settings.get("spool"), "`collect.spool`", ("max_bytes",))
    default = CollectConfig()
    max_bytes = reader.quantity(
        spool.get("max_bytes"), "`collect.spool.max_bytes`", default.spool_max_bytes, quantities.size
    )
    if 0 < max_bytes < 1024**2:
        reader.problem(spool["max_bytes"], "`collect.spool.max_bytes` is too small", "at least 1MB, or 0 for no spool")
    return CollectConfig(
        _path_prefix(reader, settings["path_prefix"]) if "path_prefix" in settings else "",
        _public_url(reader, settings["public_url"]) if "public_url" in settings else "",
        _trusted_proxies(reader, settings.get("trusted_proxies")),
        max_bytes,
    )


def _path_prefix(reader: Reader, node: Node) -> str:
    if isinstance(node, Scalar) and node.value == "":
        return ""  # a variable that is not set
    text = (reader.text(node, "`collect.path_prefix`") or "").rstrip("/")
    if text and not _PREFIX.match(text):
        hint = "write `/e`: a slash, then letters, digits, `-`, `.`, `_` and `~`"
        reader.problem(node, "`collect.path_prefix` is not a path", hint)
    elif text.split("/")[1:2] == ["v1"]:
        reader.problem(node, "`collect.path_prefix` begins like the collector's own paths", "write another one: `/e`")
    return text


def _public_url(reader: Reader, node: Node) -> str:
    if isinstance(node, Scalar) and node.value == "":
        return ""  # a variable that is not set
    text = reader.text(node, "`collect.public_url`") or ""
    try:
        url = urlsplit(text)
        valid = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0 and url.username is None
        valid = valid and not (url.query or url.fragment or re.search(r"[\s?#]", text))
    except ValueError:
        valid = False
    if text and not valid:
        hint = "write `https://events.shop.example`, and a path where there is one"
        reader.problem(node, "`collect.public_url` is not the URL of a server", hint)
    return text.rstrip("/")


def _trusted_proxies(reader: Reader, node: Node | None) -> tuple[str, ...]:
    networks = []
    for item in reader.items(node):
        text = reader.text(item, "`collect.trusted_proxies`")
        if text is None:
            continue
        try:
            networks.append(str(ip_network(text, strict=False)))
        except ValueError:
            hint = "write addresses or networks: [127.0.0.1, 10.0.0.0/8]"
            reader.problem(item, "`collect.trusted_proxies` holds something that is no network", hint)
    return tuple(networks)
