"""Built-in: the browser, operating system and device that a user agent names, by the rules of uap-core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel

from ..enrichment import Enrichment, is_empty
from ..events import Event
from ..hookspecs import hookimpl

if TYPE_CHECKING:
    from ua_parser import Parser

MAX_CHARACTERS = 1000
"""What is beyond in a user agent isn't read."""
CACHED = 5000
"""How many user agents are remembered."""


class UserAgent(Enrichment):
    """Reads browser, operating system and device out of `context.userAgent`.

    Fills `context.browser` and `context.os` (`name`, `version`) and `context.device` (`manufacturer`, `model`), each
    unless the client sent one.
    """

    name: ClassVar[str] = "user_agent"

    def __init__(self, options: BaseModel) -> None:
        super().__init__(options)
        self._parser: Parser | None = None
        self._known = lru_cache(CACHED)(self._parse)

    def patch(self, event: Event) -> Mapping[str, Any] | None:
        context: Any = event.get("context")
        agent = context.get("userAgent") if type(context) is dict else None
        if type(agent) is not str or not agent:
            return None
        patch = self._known(agent[:MAX_CHARACTERS])
        if patch is not None and ("os" in context or "device" in context or "browser" in context):
            parts = {name: part for name, part in patch["context"].items() if is_empty(context.get(name))}
            return {"context": parts} if parts else None
        return patch

    def _parse(self, agent: str) -> Mapping[str, Any] | None:
        if self._parser is None:
            self._parser = _load()
        found = self._parser.parse(agent)
        parts: dict[str, Any] = {}
        if found.user_agent:
            named = found.user_agent
            version = _version(named.major, named.minor, named.patch, named.patch_minor)
            parts["browser"] = {"name": named.family, **version}
        if found.os:
            system = found.os
            parts["os"] = {
                "name": system.family,
                **_version(system.major, system.minor, system.patch, system.patch_minor),
            }
        if found.device and (device := _device(found.device.brand, found.device.model)):
            parts["device"] = device
        return {"context": parts} if parts else None


def _load() -> Parser:
    """The parser takes a tenth of a second and 30 MB: a worker that meets no user agent does without."""
    from ua_parser import Parser
    from ua_parser.loaders import load_lazy_builtins
    from ua_parser.regex import Resolver

    return Parser(Resolver(load_lazy_builtins()))


def _version(*parts: str | None) -> dict[str, str]:
    version = ".".join(part for part in parts if part)
    return {"version": version} if version else {}


def _device(brand: str | None, model: str | None) -> dict[str, str]:
    """Without what uap-core says of bots, and of devices that it doesn't know (`K` is Chrome's word for any phone)."""
    if brand is None or brand == "Spider":
        return {}
    if brand.startswith("Generic"):
        return {"model": model} if brand == "Generic_Android" and model and model != "K" else {}
    return {"manufacturer": brand, "model": model} if model else {"manufacturer": brand}


@hookimpl
def register_enrichments() -> Sequence[type[Enrichment]]:
    return [UserAgent]
