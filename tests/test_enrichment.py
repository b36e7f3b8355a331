"""enrichment.py: the base of enrichment plugins."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from eventrouter.enrichment import Enrichment, is_empty


class Plain(Enrichment):
    name = "plain"


async def test_start_settled_and_close_may_be_left_out() -> None:
    plain = Plain(Plain.Options())
    await plain.start()
    await plain.settled(0)
    await plain.close()


async def test_enrich_and_patch_are_the_plugins_own() -> None:
    with pytest.raises(TypeError, match=r"Plain does not define enrich\(\)"):
        await Plain(Plain.Options()).enrich(0, [])
    with pytest.raises(TypeError, match=r"Plain does not define patch\(\)"):
        Plain(Plain.Options()).patch({})


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValidationError):
        Plain.Options.model_validate({"nonsense": 1})


def test_events_go_on_without_an_enrichment_unless_it_is_required() -> None:
    assert Plain.required is False


def test_one_runs_unless_it_says_otherwise() -> None:
    assert Plain.enabled is True


@pytest.mark.parametrize("value", [None, "", {}, [], {"name": "", "version": None}, [None, {"a": ""}]])
def test_nothing_is_empty(value: Any) -> None:
    assert is_empty(value)


@pytest.mark.parametrize("value", [0, False, "0", " ", {"name": "", "version": 0}, ["", "a"]])
def test_something_is_not_empty(value: Any) -> None:
    assert not is_empty(value)
