"""The documents that clients load before they send: each tells them to send here, and nowhere else."""

from __future__ import annotations

from typing import Any

from .source import Source


def segment_settings(key: str, url: str) -> dict[str, Any]:
    """For @segment/analytics-next, with the write key `key`; `url` is the collector's.

    Without `apiKey` its events carry no key; without `protocol` it would speak https only; one more integration, or
    metrics, would be loaded from or sent to Segment.
    """
    protocol, _, host = url.partition("://")
    return {
        "integrations": {"Segment.io": {"apiKey": key, "apiHost": f"{host}/v1", "protocol": protocol}},
        "metrics": {"sampleRate": 0},
    }


def rudderstack_settings(key: str, source: Source, public_url: str) -> dict[str, Any]:
    """For the SDKs of RudderStack: its browser's needs `id`, `config` and `destinations`, those of phones all.

    They send to the URL that the app gives them. Older ones prefer `dataplanes`, which is there only when the operator
    says by which URL clients reach the collector: one that was read from a request could be a proxy's.
    """
    document: dict[str, Any] = {
        "id": source.name,
        "name": source.name,
        "writeKey": key,
        "enabled": source.enabled,
        "workspaceId": "eventrouter",
        "updatedAt": "2020-01-01T00:00:00.000Z",
        "config": {"statsCollection": {"errors": {"enabled": False}, "metrics": {"enabled": False}}},
        "destinations": [],
    }
    if public_url:
        document["dataplanes"] = {region: [{"url": public_url, "default": True}] for region in ("US", "EU")}
    return {"isHosted": False, "source": document}
