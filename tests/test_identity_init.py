"""The identity plugin as it is found: by its entry point, like any other."""

from __future__ import annotations

from eventrouter.builtin import identity
from eventrouter.builtin.identity import IdentityEnrichment


def test_it_is_registered_by_the_public_hook_and_routing_waits_for_it() -> None:
    assert list(identity.register_enrichments()) == [IdentityEnrichment]
    assert (IdentityEnrichment.name, IdentityEnrichment.required) == ("identity", True)
