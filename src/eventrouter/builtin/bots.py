"""Built-in: flags the events of known bots, by the list of crawler-user-agents."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from pydantic import Field

from ..enrichment import Enrichment
from ..events import Event
from ..hookspecs import hookimpl

MAX_CHARACTERS = 1000
"""What is beyond in a user agent isn't read."""
CACHED = 5000
"""How many user agents are remembered."""
CHUNK = 25
"""Patterns in one expression: with more, Python's matcher gets slower for each."""

HTTP_LIBRARY = "http-library"


class Bots(Enrichment):
    """Flags the events of known bots: `context.isBot` and `context.bot`, by `context.userAgent`.

    Events of others get nothing. What the client says itself about bots stays.
    """

    name: ClassVar[str] = "bots"

    class Options(Enrichment.Options):
        """Who counts as a bot."""

        http_libraries: bool = Field(
            default=False, description="Whether HTTP libraries (okhttp, axios, curl, …), which apps use too, are bots."
        )

    options: Options

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._chunks: list[tuple[re.Pattern[str], list[Mapping[str, Any]]]] = []
        self._known = lru_cache(CACHED)(self._find)

    def patch(self, event: Event) -> Mapping[str, Any] | None:
        context: Any = event.get("context")
        agent = context.get("userAgent") if type(context) is dict else None
        if type(agent) is not str or not agent:
            return None
        patch = self._known(agent[:MAX_CHARACTERS])
        if patch is None or "isBot" in context or "bot" in context:
            return None
        return patch

    def _find(self, agent: str) -> Mapping[str, Any] | None:
        if not self._chunks:
            self._chunks = self._load()
        for pattern, bots in self._chunks:
            if pattern.search(agent):
                for bot in bots:
                    if found := re.search(bot["pattern"], agent):
                        return {"context": {"isBot": True, "bot": _described(bot, found[0])}}
        return None

    def _load(self) -> list[tuple[re.Pattern[str], list[Mapping[str, Any]]]]:
        from crawleruseragents import CRAWLER_USER_AGENTS_DATA

        bots = [
            bot
            for bot in CRAWLER_USER_AGENTS_DATA
            if self.options.http_libraries or HTTP_LIBRARY not in bot.get("tags", ())
        ]
        chunks = [bots[first : first + CHUNK] for first in range(0, len(bots), CHUNK)]
        return [(re.compile("|".join(bot["pattern"] for bot in chunk)), chunk) for chunk in chunks]


def _described(bot: Mapping[str, Any], matched: str) -> dict[str, str]:
    """Named by the part of the user agent that gave it away: the list has patterns, but no names."""
    described = {"name": matched.strip(" /;:()+-_") or matched}
    if tags := bot.get("tags"):
        described["category"] = tags[0]
    if url := bot.get("url"):
        described["url"] = url
    return described


@hookimpl
def register_enrichments() -> Sequence[type[Enrichment]]:
    return [Bots]
