"""Kinds of columns, and which values fit."""

from __future__ import annotations

import math
from typing import Any

import pytest

from eventrouter.builtin.warehouse.values import (
    BOOLEAN,
    DOUBLE,
    INTEGER,
    MISFIT,
    NUMBER,
    OTHER,
    TEXT,
    TIMESTAMP,
    fit,
    is_clean,
    kind_of,
    read_time,
    scrub,
    to_text,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-24T17:00:00.123Z", "2026-11-24T17:00:00.123Z"),
        ("2026-11-24T17:00:00Z", "2026-11-24T17:00:00.000Z"),
        ("2026-11-24T17:00:00.123456Z", "2026-11-24T17:00:00.123456Z"),
        ("2026-11-24T17:00:00.123456789Z", "2026-11-24T17:00:00.123456Z"),
        ("2026-11-24T18:00:00+01:00", "2026-11-24T17:00:00.000Z"),
        ("2026-11-24 17:00:00.12+00", "2026-11-24T17:00:00.120Z"),
        ("2026-11-24T17:00", "2026-11-24T17:00:00.000Z"),
        ("2026-11-24", "2026-11-24T00:00:00.000Z"),
    ],
)
def test_iso_times_are_read_in_utc(text: str, expected: str) -> None:
    assert expected == read_time(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tomorrow",
        "2026-02-30",
        "2026-13-01T00:00:00Z",
        "2026-11-24T25:00:00.000Z",
        "2026-11-24T17:00:00.12xZ",
        "2026-W48-2T17:00:00.123Z",
        "20261124T170000Z",
        "0000-01-01",
        "0001-01-01T00:00:00+14:00",
        "1234-5678",
        "2026-11-24T17:00:00.123Z ",
        "2026-11-24T17:00:00.123Z\n",
    ],
)
def test_what_is_no_time_is_none(text: str) -> None:
    assert read_time(text) is None


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (True, BOOLEAN),
        (7, NUMBER),
        (-(2**63), NUMBER),
        (2**63, TEXT),
        (7.5, DOUBLE),
        ("2026-11-24", TIMESTAMP),
        ("seven", TEXT),
        ("7", TEXT),
        ([1, 2], TEXT),
        ({"a": 1}, TEXT),
    ],
)
def test_the_first_value_fixes_the_kind(value: Any, kind: str) -> None:
    assert kind == kind_of(value)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (TEXT, "a", "a"),
        (TEXT, 10**30, str(10**30)),
        (TEXT, True, "true"),
        (TEXT, 1.5, "1.5"),
        (TEXT, [1, "b"], '[1,"b"]'),
        (BOOLEAN, False, False),
        (NUMBER, 7, 7),
        (NUMBER, 7.25, 7.25),
        (DOUBLE, 7.25, 7.25),
        (DOUBLE, 2**53, float(2**53)),
        (DOUBLE, 2**70, float(2**70)),
        (TIMESTAMP, "2026-11-24", "2026-11-24T00:00:00.000Z"),
        (INTEGER, 7, 7),
    ],
)
def test_a_value_that_fits_keeps_its_meaning(kind: str, value: Any, expected: Any) -> None:
    found = fit(kind, value)
    assert expected == found
    assert type(expected) is type(found)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (BOOLEAN, 1),
        (BOOLEAN, "true"),
        (NUMBER, "7"),
        (NUMBER, True),
        (NUMBER, 2**63),
        (NUMBER, -(2**63) - 1),
        (NUMBER, [7]),
        (NUMBER, math.inf),
        (DOUBLE, 2**53 + 1),
        (DOUBLE, 10**400),
        (DOUBLE, math.nan),
        (TIMESTAMP, "tomorrow"),
        (TIMESTAMP, 1_700_000_000),
        (INTEGER, 7.5),
        (OTHER, "anything"),
    ],
)
def test_a_value_that_does_not_fit_is_not_cut(kind: str, value: Any) -> None:
    assert MISFIT is fit(kind, value)
    assert "MISFIT" == repr(MISFIT)


def test_to_text_leaves_strings_and_none_alone() -> None:
    assert ["a", None, "1", '{"a":1}'] == [to_text("a"), to_text(None), to_text(1), to_text({"a": 1})]


def test_only_the_escape_of_nul_is_unclean() -> None:
    assert is_clean(b'{"a":"b\\n"}')
    assert not is_clean(b'{"a":"\\u0000"}')


def test_scrub_replaces_what_no_database_takes_everywhere() -> None:
    dirty = {"a\0": ["x\ud800y", {"b": "\0"}], "n": 5, "pair": "\ud83c\udf89", "fine": "ü"}
    assert {"a\ufffd": ["x\ufffdy", {"b": "\ufffd"}], "n": 5, "pair": "🎉", "fine": "ü"} == scrub(dirty)
