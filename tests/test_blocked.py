"""Which values never identify anybody."""

from __future__ import annotations

import pytest

from eventrouter.blocked import is_blocked


@pytest.mark.parametrize(
    "value",
    [
        *["", "   ", "\t", "0", "000000", "-", "-1", "00000000-0000-0000-0000-000000000000"],
        *["null", "NULL", "None", "undefined", "Anonymous", "guest", "TRUE", "false", "email", "distinct_id", "ID"],
        *["not_authenticated", "[object Object]", "NaN", '"null"', "'undefined'", '""', " null ", '"00-00"'],
    ],
)
def test_a_stand_in_for_a_missing_id_is_blocked(value: str) -> None:
    assert is_blocked(value)


@pytest.mark.parametrize(
    "value",
    [
        *[
            "1",
            "u1",
            "nan",
            "nullable",
            "guest-7",
            "10",
            "0a",
            "1-0",
            "-10",
            "'",
            '"x',
            "none@example.org",
            "Идентификатор",
        ],
        *["5f3c1a52-7c1e-4f6a-9a55-000000000000", "x" * 30_000, "[object object]"],
    ],
)
def test_any_other_value_is_an_id(value: str) -> None:
    assert not is_blocked(value)
