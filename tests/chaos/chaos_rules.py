"""The rules of a chaos run, and the other ones that are saved in its course."""

from __future__ import annotations

from typing import NamedTuple

RULES = """\
version: 1
sources:
  app: {{ write_key: chaos }}
destinations:
  one:
    plugin: webhook
    options: {{ url: "http://127.0.0.1:{port}/one", allow_private: true, timeout: {timeout} }}
    timeout: {timeout}s
    retry: {{ initial: 100ms, max_interval: 1s, max_attempts: 1000 }}
  many:
    plugin: webhook
    options: {{ url: "http://127.0.0.1:{port}/many", allow_private: true, timeout: {timeout} }}
    timeout: {timeout}s
    batch: {{ size: 50 }}
    retry: {{ initial: 100ms, max_interval: 1s, max_attempts: 1000 }}
routes:
"""

TEMPLATE = """\
  - name: a template that fails
    to: one
    when: event == "Broken"
    map: {{ ratio: "{{{{ 1 / properties.zero }}}}" }}
"""

ROUTES = """\
  - name: all but one to one
    to: one
    when: {one}
    set: {{ context.version: {version} }}
  - name: batches
    to: many
    when: not (event == "Unrouted"){many}
    set: {{ context.version: {version} }}
"""

STORES = """
warehouse: {{ url: "{postgres}" }}
state: {{ url: "{postgres}" }}
"""

DELIVERED, DEAD, FILTERED = "delivered", "dead", "filtered"


class Variant(NamedTuple):
    """Rules that were saved; what they deliver bears their `version`."""

    version: int = 0
    mended: bool = False
    """The template that fails is gone."""
    strict: bool = False
    """What the receiver refuses is not sent."""

    def text(self, port: int, timeout: int, postgres: str = "") -> str:
        """The file, for a receiver at `port`; `timeout` is in seconds."""
        routes = ROUTES.format(
            version=self.version,
            one="not properties.poison" if self.strict else "true",
            many=" and not properties.poison" if self.strict else "",
        )
        broken = "" if self.mended else TEMPLATE.format()
        stores = STORES.format(postgres=postgres) if postgres else ""
        return RULES.format(port=port, timeout=timeout) + broken + routes + stores

    def fate(self, destination: str, name: str, poison: bool) -> str:
        """What they make of an event: `DELIVERED` (or refused), `DEAD` by its template, or `FILTERED`."""
        if destination == "one" and name == "Broken" and not self.mended:
            return DEAD
        filtered = (self.strict and poison) or (destination == "many" and name == "Unrouted")
        return FILTERED if filtered else DELIVERED
