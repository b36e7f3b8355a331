"""enrichment.py: the base of enrichment plugins."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from eventrouter.enrichment import Enrichment


class Plain(Enrichment):
    name = "plain"


async def test_start_settled_and_close_may_be_left_out() -> None:
    plain = Plain(Plain.Options())
    await plain.start()
    await plain.settled(0)
    await plain.close()


async def test_enrich_may_not_be_left_out() -> None:
    with pytest.raises(TypeError, match=r"Plain does not define enrich\(\)"):
        await Plain(Plain.Options()).enrich(0, [])


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValidationError):
        Plain.Options.model_validate({"nonsense": 1})


def test_events_go_on_without_an_enrichment_unless_it_is_required() -> None:
    assert Plain.required is False
