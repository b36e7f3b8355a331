"""Small MaxMind DB files for tests, made by mmdb_writer in the layout of GeoLite2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmdb_writer import MMDBWriter
from netaddr import IPSet

LONDON = {
    "city": {"names": {"en": "London", "de": "London"}},
    "country": {"iso_code": "GB", "names": {"en": "United Kingdom", "de": "Großbritannien"}},
    "subdivisions": [
        {"iso_code": "ENG", "names": {"en": "England"}},
        {"iso_code": "WSM", "names": {"en": "Westminster"}},
    ],
    "location": {"latitude": 51.5142, "longitude": -0.0931, "time_zone": "Europe/London", "accuracy_radius": 10},
    "postal": {"code": "EC2V"},
}
ZURICH = {
    "city": {"names": {"en": "Zurich"}},
    "country": {"iso_code": "CH", "names": {"en": "Switzerland"}},
    "location": {"latitude": 47.3682, "longitude": 8.5671, "time_zone": "Europe/Zurich"},
}
SWITZERLAND = {"country": {"iso_code": "CH", "names": {"en": "Switzerland"}}}
PROVIDER = {"autonomous_system_number": 64500, "autonomous_system_organization": "Example Net"}

CITY_NETWORKS: dict[str, Any] = {
    "81.2.69.0/24": LONDON,
    "2a02:cf40::/29": ZURICH,
    "10.0.0.0/8": LONDON,
    "100.64.0.0/10": LONDON,
    "9.9.9.0/24": {"city": "nonsense", "subdivisions": [], "country": "nowhere"},
}


def make(path: Path, networks: dict[str, Any], *, kind: str = "GeoLite2-City", version: int = 6) -> Path:
    """Writes a file that knows these networks."""
    writer = MMDBWriter(ip_version=version, ipv4_compatible=version == 6, database_type=kind, languages=["en"])
    for network, record in networks.items():
        writer.insert_network(IPSet([network]), record)
    writer.to_db_file(str(path))
    return path


def city(folder: Path) -> Path:
    """A City file."""
    return make(folder / "GeoLite2-City.mmdb", CITY_NETWORKS)


def country(folder: Path) -> Path:
    """A Country file, for IPv4 alone."""
    return make(folder / "country.mmdb", {"81.2.69.0/24": SWITZERLAND}, kind="GeoLite2-Country", version=4)


def asn(folder: Path) -> Path:
    """An ASN file."""
    return make(folder / "GeoLite2-ASN.mmdb", {"81.2.0.0/16": PROVIDER}, kind="GeoLite2-ASN")
