"""Small helpers for statements."""

from __future__ import annotations

from eventrouter.builtin.warehouse.store import chunks, placeholders


def test_placeholders_are_one_per_value() -> None:
    assert ["", "?", "?, ?, ?"] == [placeholders(0), placeholders(1), placeholders(3)]


def test_chunks_keep_order_and_size() -> None:
    assert [[0, 1], [2, 3], [4]] == list(chunks(range(5), 2))
    assert [] == list(chunks([], 2))
    assert [[0, 1]] == list(chunks(range(2), 2))
