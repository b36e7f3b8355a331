from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventrouter.times import EPOCH, read_time, utc, write_time

NOON = "2026-11-24T12:00:00.000Z"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-24T12:00:00Z", NOON),
        ("2026-11-24T12:00:00z", NOON),
        ("2026-11-24T12:00:00.123Z", "2026-11-24T12:00:00.123Z"),
        ("2026-11-24T12:00:00.1Z", "2026-11-24T12:00:00.100Z"),
        ("2026-11-24T12:00:00.123456+00:00", "2026-11-24T12:00:00.123Z"),
        ("2026-11-24T12:00:00.123456789Z", "2026-11-24T12:00:00.123Z"),
        ("2026-11-24T17:30:00.123456789+05:30", "2026-11-24T12:00:00.123Z"),
        ("2026-11-24T13:00:00+0100", NOON),
        ("2026-11-24T12:00:00", NOON),
        ("2026-11-24 12:00:00", NOON),
        ("2026-11-24 12:00:00 UTC", NOON),
        ("2026-11-24 12:00:00 +0000", NOON),
        ("2026-11-24T12:00", NOON),
        (" 2026-11-24T12:00:00Z ", NOON),
        ("2026-11-24", "2026-11-24T00:00:00.000Z"),
        ("20261124", "2026-11-24T00:00:00.000Z"),
        ("Tue, 24 Nov 2026 12:00:00 GMT", NOON),
        ("Tue, 24 Nov 2026 13:00:00 +0100", NOON),
        ("1795521600", NOON),
        ("1795521600000", NOON),
        ("1795521600.123", "2026-11-24T12:00:00.123Z"),
        ("-8640000000", "1696-03-17T00:00:00.000Z"),
    ],
)
def test_reads_the_times_that_clients_write(text: str, expected: str) -> None:
    time = read_time(text)
    assert time is not None
    assert expected == write_time(time)


@pytest.mark.parametrize(
    "number", [1795521600, 1795521600.0, 1795521600000, 1795521600000000, 1795521600000000000], ids=str
)
def test_reads_the_unix_epoch_in_any_unit(number: float) -> None:
    time = read_time(number)
    assert time is not None
    assert write_time(time) == NOON


@pytest.mark.parametrize(
    "value",
    [
        "",
        "yesterday",
        "2026-13-01T00:00:00Z",
        "2026-11-24T12:00:00+01:00Z",
        "0001-01-01T00:00:00+05:00",
        "9" * 400,
        "x" * 100_000,
        "\ud800",
        None,
        True,
        [],
        {},
        1e300,
        10**4000,
        float("nan"),
        float("inf"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_means_no_time_is_none(value: object) -> None:
    assert read_time(value) is None


@given(
    st.text() | st.integers() | st.floats() | st.from_regex(r"\d{4}-?\d\d-?\d\d.?\d\d:\d\d(:\d\d)?(\.\d+)?(Z|[+-].*)?")
)
def test_never_fails(value: object) -> None:
    time = read_time(value)
    assert time is None or time.tzinfo is None


@given(st.datetimes(EPOCH.replace(year=2), EPOCH.replace(year=9999)), st.integers(-14, 14))
def test_reads_what_isoformat_writes_in_any_zone(time: datetime, hours: int) -> None:
    there = time.replace(tzinfo=UTC).astimezone(timezone(timedelta(hours=hours)))
    assert read_time(there.isoformat()) == time
    assert utc(there) == time
