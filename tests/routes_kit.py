"""What the tests of routes.yaml share: a plugin to configure, and files in one line."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, SecretStr, field_validator

from eventrouter.config import Config, loads
from eventrouter.destination import Destination, RateLimit
from eventrouter.hookspecs import hookimpl
from eventrouter.plugins import PluginError, Plugins, _Origin
from eventrouter.warehouse import Warehouse


class Nested(BaseModel):
    """An option with options."""

    token: SecretStr | None = None
    depth: int = 1


class Acme(Destination):
    """Tells Acme."""

    name = "acme"
    batch_size = 100
    rate_limit = RateLimit(10, per_seconds=1)

    class Options(Destination.Options):
        """Acme's options."""

        api_key: SecretStr = Field(description="Acme project key.", min_length=4)
        region: str = "eu"
        retries: int = 3
        strict: bool = False
        headers: dict[str, SecretStr] = Field(default_factory=dict)
        nested: Nested = Nested()

        @field_validator("region")
        @classmethod
        def known(cls, value: str) -> str:
            """Only two regions."""
            if value not in ("eu", "us"):
                raise ValueError(f"{value} is not a region")
            return value

    async def deliver(self, messages: Any) -> None:
        """Takes everything."""


class Lake(Warehouse):
    """A warehouse."""

    name = "lake"
    schemes = ("sqlite", "postgresql")

    async def deliver(self, messages: Any) -> None:
        """Takes everything."""


class Kit:
    """Registers both, and a filter."""

    @hookimpl
    def register_destinations(self) -> list[type[Destination]]:
        return [Acme]

    @hookimpl
    def register_warehouses(self) -> list[type[Warehouse]]:
        return [Lake]

    @hookimpl
    def register_template_filters(self) -> dict[str, Any]:
        return {"shout": lambda value: f"{value}!"}


PLUGINS = Plugins(Kit())


def plugins_with_a_broken_one() -> Plugins:
    """As `PLUGINS`, beside an installed one that can't be imported."""
    plugins = Plugins(Kit())
    plugins.broken[_Origin("late")] = PluginError("plugin 'late' can't be imported", hint="upgrade it")
    return plugins


HEAD = """\
version: 1
sources:
  website: { write_key: dev-website }
  app: { write_key: dev-app }
destinations:
  crm: { plugin: acme, options: { api_key: abcd } }
  alerts: { plugin: acme, options: { api_key: abcd }, consent: marketing }
  off: { plugin: acme, options: { api_key: abcd }, enabled: false }
routes:
"""


def load(text: str, **environ: str) -> Config:
    """The configuration of a file."""
    return loads(text, PLUGINS, environ)
