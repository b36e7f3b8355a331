"""Keeps what is secret in the rules out of logs and errors."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote, urlsplit

from . import logs
from .config_model import Config


def hide_secrets(config: Config) -> None:
    """Keeps the secrets of routes.yaml, and what variables brought into it, out of logs and errors."""
    logs.hide_as(config.mask)
    logs.hide_all_of([destination.options for destination in config.destinations.values()])
    logs.hide_all_of([enrichment.options for enrichment in config.enrichments.values()])
    hide_passwords([config.warehouse.url, config.state.url])


def hide_passwords(urls: Iterable[str]) -> None:
    """Keeps the passwords of these URLs out of logs and errors."""
    for url in urls:
        try:
            password = urlsplit(url).password
        except ValueError:
            continue
        if password:
            logs.hide(password, unquote(password))
