"""Built-in: the campaign that brought somebody, out of the page's URL."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import unquote_plus

from ..enrichment import Enrichment, is_empty
from ..events import Event
from ..hookspecs import hookimpl

CAMPAIGN = {
    "utm_campaign": "name",
    "utm_source": "source",
    "utm_medium": "medium",
    "utm_term": "term",
    "utm_content": "content",
    "utm_id": "id",
    "utm_source_platform": "source_platform",
    "utm_creative_format": "creative_format",
    "utm_marketing_tactic": "marketing_tactic",
}
"""Parameters of a URL, and what `context.campaign` calls them: Segment's names, where it has one."""

CLICK_IDS = (
    "gclid", "gbraid", "wbraid", "dclid", "fbclid", "msclkid", "ttclid", "twclid", "li_fat_id", "rdt_cid", "sccid",
    "epik", "yclid", "irclickid",
)  # fmt: skip
"""Parameters by which advertisers (Google, Meta, Microsoft, TikTok, X, LinkedIn, Reddit, Snap, Pinterest, Yandex,
Impact) recognise a click; `context.clickIds` has them by the same names."""

_PARAMETER = re.compile(rf"(?i)[?&]({'|'.join((*CAMPAIGN, *CLICK_IDS))})=([^&#]+)")


class Campaign(Enrichment):
    """Reads the campaign (`utm_…`) and click ids (`gclid`, …) out of the URL of the page.

    Fills `context.campaign` and `context.clickIds`, each unless the client sent one. The URL is that of
    `context.page`, else of a page event's `properties`: `url`, or `search`.
    """

    name: ClassVar[str] = "campaign"

    def patch(self, event: Event) -> Mapping[str, Any] | None:
        context: Any = event.get("context")
        query = _query(event, context)
        if not query:
            return None
        campaign: dict[str, str] = {}
        clicks: dict[str, str] = {}
        for name, value in _PARAMETER.findall(query):
            known = name.lower()
            if known in CAMPAIGN:
                campaign[CAMPAIGN[known]] = unquote_plus(value)
            else:
                clicks[known] = unquote_plus(value)
        sent = context if type(context) is dict else {}
        parts = {}
        if campaign and is_empty(sent.get("campaign")):
            parts["campaign"] = campaign
        if clicks and is_empty(sent.get("clickIds")):
            parts["clickIds"] = clicks
        return {"context": parts} if parts else None


def _query(event: Event, context: Any) -> str:
    """The page's URL from its `?` on, without what follows a `#`; a `url` elsewhere may be that of any link."""
    page = context.get("page") if type(context) is dict else None
    if not page and event.get("type") == "page":
        page = event.get("properties")
    if type(page) is dict:
        for name in ("url", "search"):
            text = page.get(name)
            if type(text) is str and (begin := text.find("?")) >= 0:
                return text[begin:].partition("#")[0]
    return ""


@hookimpl
def register_enrichments() -> Sequence[type[Enrichment]]:
    return [Campaign]
