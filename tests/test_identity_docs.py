"""Every example in docs/identity.md is true."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from eventrouter.blocked import ANY_CASE, EXACT
from identity_kit import Warehouse, new_identity, persons, stored

PAGE = (Path(__file__).parent.parent / "docs" / "identity.md").read_text()
EXAMPLES = re.findall(r"^```identity\nthen  today\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def letters(ids: list[str | None], names: dict[str, str]) -> list[str]:
    """Each person by a letter, in the order of appearance."""
    return [names.setdefault(id_, "ABCDEF"[len(names)]) if id_ else "-" for id_ in ids]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 5
    assert PAGE.count("```") == 2 * len(EXAMPLES)


@pytest.mark.parametrize("batch_size", [1, 2, 10])
@pytest.mark.parametrize("example", EXAMPLES)
async def test_the_example_is_true_however_it_is_batched(example: str, batch_size: int, tmp_path: Path) -> None:
    lines = [line.split(maxsplit=2) for line in example.splitlines()]
    events = [stored(**json.loads(event)) for _, _, event in lines]
    identity = new_identity(f"sqlite:///{tmp_path / 'state.sqlite3'}")
    warehouse = Warehouse()
    for start in range(0, len(events), batch_size):
        warehouse.load(await identity.enrich(0, events[start : start + batch_size]))
        await identity.settled(0)
    await identity.close()
    names: dict[str, str] = {}
    assert letters(persons(events), names) == [then for then, _, _ in lines]
    assert letters([warehouse.today(id_) for id_ in persons(events)], names) == [today for _, today, _ in lines]


def test_the_page_names_every_blocked_value() -> None:
    assert {value for value in ANY_CASE | EXACT if f"`{value}`" not in PAGE} == set()
