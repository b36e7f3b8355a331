"""Own your event tracking: one call in your app, every event in your warehouse, and by rules in any other tool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    WorkerSettings: type
    from .app import EventRouter
    from .destination import Destination, Message, Outcome, RateLimit, Request, check_response
    from .enrichment import Enrichment, is_empty
    from .errors import ConfigError, EventRouterError, Reject, Retry
    from .hookspecs import hookimpl
    from .masking import MASK
    from .options import OptionDuration, OptionPath
    from .warehouse import Warehouse

_PUBLIC = {
    "MASK": "masking",
    "ConfigError": "errors",
    "Destination": "destination",
    "Enrichment": "enrichment",
    "EventRouter": "app",
    "EventRouterError": "errors",
    "Message": "destination",
    "OptionDuration": "options",
    "OptionPath": "options",
    "Outcome": "destination",
    "RateLimit": "destination",
    "Reject": "errors",
    "Request": "destination",
    "Retry": "errors",
    "Warehouse": "warehouse",
    "check_response": "destination",
    "hookimpl": "hookspecs",
    "is_empty": "enrichment",
}

__all__ = [
    "MASK",
    "ConfigError",
    "Destination",
    "Enrichment",
    "EventRouter",
    "EventRouterError",
    "Message",
    "OptionDuration",
    "OptionPath",
    "Outcome",
    "RateLimit",
    "Reject",
    "Request",
    "Retry",
    "Warehouse",
    "WorkerSettings",
    "check_response",
    "hookimpl",
    "is_empty",
]


def __getattr__(name: str) -> Any:
    """Loads what is asked for: the command line starts faster when nothing else is imported."""
    from importlib import import_module

    if name == "WorkerSettings":
        return import_module(".cli.work", __name__).arq_settings()
    if name in _PUBLIC:
        return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
