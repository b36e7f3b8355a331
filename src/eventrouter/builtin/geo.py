"""Built-in: where an IP address is, by MaxMind DB files that the user brings."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

import structlog
from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from ..enrichment import Enrichment, is_empty
from ..events import Event
from ..hookspecs import hookimpl
from ..options import OptionPath

log = structlog.get_logger("eventrouter.geo")

CHECK_SECONDS = 60.0
"""How often the files are looked at."""
START_SECONDS = 10.0
"""How long the start waits for the files; what takes longer goes on beside the first events."""
SETTLED_SECONDS = 2.0
"""A file that was changed more recently may not be whole yet."""
CACHED = 20_000
"""How many addresses are remembered."""
MAX_CHARACTERS = 64
"""What is longer is no address."""


def _checked(path: Path, info: ValidationInfo) -> Path:
    """Raises `ValueError`, whose second line is the advice, for what can't be used, where files are looked at."""
    import maxminddb

    if not (info.context or {}).get("check_files", True):
        return path
    if not path.is_file():
        advice = "download one, such as GeoLite2-City.mmdb of MaxMind; a relative path begins beside routes.yaml"
        raise ValueError(f"there is no file {path}\n{advice}")
    try:
        maxminddb.open_database(path).close()
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror or error}\ncheck its permissions") from None
    except maxminddb.InvalidDatabaseError:
        advice = "it has to be an unpacked .mmdb file; download it again"
        raise ValueError(f"{path} is not a MaxMind DB file, or not a whole one\n{advice}") from None
    return path


class Geo(Enrichment):
    """Looks `context.ip` up in MaxMind DB files (City, Country, ASN) and fills `context.location`.

    Fills `context.network.asn` and `organization` too, from an ASN file; none of what the client sent is replaced.
    """

    name: ClassVar[str] = "geo"
    enabled: ClassVar[bool] = False

    class Options(Enrichment.Options):
        """Which files, and what becomes of the address."""

        database: Annotated[
            list[Annotated[OptionPath, AfterValidator(_checked)]],
            BeforeValidator(
                lambda value: value if isinstance(value, list) else [value], json_schema_input_type=str | list[str]
            ),
            Field(min_length=1, description="The path of an .mmdb file, or a list of such paths."),
        ]
        drop_ip: bool = Field(
            default=False, description="Whether context.ip is removed after the look-up, before the warehouse."
        )

    options: Options

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._databases = [_Database(path) for path in options.database]
        # An address that is to go must not stay because something takes too long: then routing waits.
        self.required = options.drop_ip  # type: ignore[misc]
        self._tasks: list[asyncio.Task[None]] = []
        self._known = lru_cache(CACHED)(self._find)
        self._told = -CHECK_SECONDS

    async def start(self) -> None:
        loading = asyncio.create_task(self.refresh())
        self._tasks = [loading, asyncio.create_task(self._watch(loading))]
        await asyncio.wait([loading], timeout=START_SECONDS)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for database in self._databases:
            database.close()

    async def refresh(self) -> None:
        """Loads the files that are new or were replaced. One that can't be used leaves the one before in use."""
        loaded = [await database.refresh() for database in self._databases]
        if any(loaded):
            self._known.cache_clear()

    async def _watch(self, loading: asyncio.Task[None]) -> None:
        await asyncio.wait([loading])
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await self.refresh()

    def patch(self, event: Event) -> Mapping[str, Any] | None:
        context: Any = event.get("context")
        ip = context.get("ip") if type(context) is dict else None
        if ip is None:
            return None
        patch = None
        try:
            if type(ip) is str and len(ip) <= MAX_CHARACTERS:
                patch = self._known(ip)
        except Exception as error:
            if not self.options.drop_ip:
                raise
            self._tell(error)
        if patch is not None and ("location" in context or "network" in context):
            patch = _without(patch["context"], context)
        if not self.options.drop_ip:
            return patch
        return {"context": {**patch["context"], "ip": None} if patch else {"ip": None}}

    def _tell(self, error: Exception) -> None:
        """A failure that must not keep the address: nobody counts it, so it is told."""
        if time.monotonic() - self._told > CHECK_SECONDS:
            self._told = time.monotonic()
            log.error("addresses are dropped without a look-up", error=str(error))

    def _find(self, ip: str) -> Mapping[str, Any] | None:
        """What the files know of an address; private addresses and what is none give nothing."""
        try:
            address = ipaddress.ip_address(ip.strip())
        except ValueError:
            return None
        if isinstance(address, ipaddress.IPv6Address):
            address = address.ipv4_mapped or address
        if not address.is_global:
            return None
        parts: dict[str, Any] = {}
        for database in self._databases:
            record = database.find(address)
            if isinstance(record, dict):
                for name, part in (("location", _location(record)), ("network", _network(record))):
                    if part:
                        parts[name] = {**part, **parts.get(name, {})}
        return {"context": parts} if parts else None


class _Database:
    """One file. What is looked up in is a copy of it: a mapped file that somebody writes over ends the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader: Any = None
        self._stamp: tuple[int, int, int] | None = None

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def find(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Any:
        """The record of an address. Raises `RuntimeError` when the file could never be loaded."""
        if self._reader is None:
            raise RuntimeError(f"{self._path} could not be loaded")
        try:
            return self._reader.get(address)
        except ValueError:  # an IPv6 address, and a file for IPv4
            return None

    async def refresh(self) -> bool:
        """Whether the file was loaded anew."""
        try:
            stamp = _stamp(self._path)
            if stamp == self._stamp:
                return False
            if self._reader is not None and time.time() - stamp[0] / 1e9 < SETTLED_SECONDS:
                return False
            reader = await asyncio.to_thread(_open_copy, self._path)
            if _stamp(self._path) != stamp:
                reader.close()
                raise OSError("it was changed while it was read")
        except Exception as error:
            log.error("a geo database can't be loaded", path=str(self._path), error=str(error), kept=bool(self._reader))
            return False
        self.close()
        self._reader, self._stamp = reader, stamp
        log.info("a geo database was loaded", path=str(self._path), type=reader.metadata().database_type)
        return True


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _open_copy(path: Path) -> Any:
    """A reader of a copy that has no name any more: it goes with the process."""
    import maxminddb

    with path.open("rb") as source, tempfile.NamedTemporaryFile(prefix="eventrouter-", suffix=".mmdb") as copy:
        shutil.copyfileobj(source, copy, 1024 * 1024)
        copy.flush()
        return maxminddb.open_database(os.fspath(copy.name))


def _location(record: Mapping[str, Any]) -> dict[str, Any]:
    country, location, postal = (_object(record.get(name)) for name in ("country", "location", "postal"))
    regions = record.get("subdivisions")
    region = _object(regions[0]) if isinstance(regions, list) and regions else {}
    found = {
        "country": _english(country),
        "countryCode": country.get("iso_code"),
        "region": _english(region),
        "regionCode": region.get("iso_code"),
        "city": _english(_object(record.get("city"))),
        "postalCode": postal.get("code"),
        "latitude": location.get("latitude"),
        "longitude": location.get("longitude"),
        "timezone": location.get("time_zone"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _network(record: Mapping[str, Any]) -> dict[str, Any]:
    found = {
        "asn": record.get("autonomous_system_number"),
        "organization": record.get("autonomous_system_organization"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _english(place: Mapping[str, Any]) -> Any:
    return _object(place.get("names")).get("en")


def _without(parts: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any] | None:
    """`parts` without what the client sent: a location as a whole, of its network the parts."""
    left = dict(parts)
    if not is_empty(context.get("location")):
        left.pop("location", None)
    if isinstance(network := context.get("network"), dict) and "network" in left:
        left["network"] = {name: value for name, value in left["network"].items() if is_empty(network.get(name))}
    return {"context": left} if left else None


@hookimpl
def register_enrichments() -> Sequence[type[Enrichment]]:
    return [Geo]
