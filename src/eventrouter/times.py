"""Points in time as clients write them, read into naive UTC datetimes, and as eventrouter writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - every datetime of this file is UTC without saying so, which is faster


def read_time(value: Any) -> datetime | None:
    """The time that a client means by `value`, as a naive datetime in UTC; None when it means none.

    Understands ISO 8601 with any offset and precision (without an offset it is UTC; what is finer than a microsecond
    is cut), RFC 2822 dates, and the Unix epoch in seconds, milli-, micro- or nanoseconds, as a number or in digits.
    """
    if isinstance(value, str):
        try:
            if value[-1:] == "Z" and not value[:-1].isdigit():
                time = datetime.fromisoformat(value[:-1])
                return time if time.tzinfo is None else None
            # The ISO parser would take thirteen digits for a day of the year 1712.
            if len(value) > 8 and value.removeprefix("-").replace(".", "", 1).isdecimal():
                return _read_epoch(float(value))
            return _naive(datetime.fromisoformat(value))
        except (ValueError, OverflowError):
            return _read_prose(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _read_epoch(value)
    return None


def write_time(time: datetime) -> str:
    """`time` (naive, in UTC) as `2026-11-24T17:00:00.123Z`: what is finer than a millisecond is cut."""
    return time.isoformat("T", "milliseconds") + "Z"


def utc(time: datetime) -> datetime:
    """`time` (aware, or naive and in UTC already) as a naive datetime in UTC."""
    return time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)


def _naive(time: datetime) -> datetime | None:
    try:
        return utc(time)
    except OverflowError:  # the first or last hours of what a datetime can hold
        return None


def _read_epoch(value: float) -> datetime | None:
    size = abs(value)
    unit = 1.0 if size < 1e11 else 1e3 if size < 1e14 else 1e6 if size < 1e17 else 1e9
    try:
        return EPOCH + timedelta(microseconds=round(value / unit * 1e6))
    except (OverflowError, ValueError):
        return None


def _read_prose(value: str) -> datetime | None:
    text = value.strip()
    if len(text) > 64:
        return None
    if text[-4:].upper() == " UTC":  # Ruby and Go print times so
        text = text[:-4]
    try:
        return _naive(datetime.fromisoformat(text.upper()))
    except ValueError:
        pass
    try:
        return _naive(parsedate_to_datetime(text))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
