"""eventrouter's destination `ga4`: Google Analytics 4, by the Measurement Protocol."""

from collections.abc import Sequence

from eventrouter.destination import Destination
from eventrouter.hookspecs import hookimpl

from .destination import Ga4

__all__ = ["Ga4", "register_destinations"]


@hookimpl
def register_destinations() -> Sequence[type[Destination]]:
    """Hands `ga4` over to eventrouter."""
    return [Ga4]
