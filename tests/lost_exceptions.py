"""Exceptions of tasks that nobody asked for: the test at whose end one is found fails, while all others are green."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

_lost: list[str] = []


class _NoTraceback(logging.Filter):
    """Notes an exception that was never retrieved, and leaves its traceback out.

    asyncio tells of it in the middle of a garbage collection, and that may be in the middle of pytest's `ast.parse`. To
    write a traceback is to call `ast.parse` once more, which breaks the first one on Python 3.11 ("AST constructor
    recursion depth mismatch"), and the whole run with it.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and "never retrieved" in record.getMessage():
            _lost.append(f"{record.getMessage()}\n{record.exc_info[1]!r}")
            record.exc_info, record.exc_text = None, repr(record.exc_info[1])
        return True


def pytest_configure() -> None:
    logging.getLogger("asyncio").addFilter(_NoTraceback())


@pytest.fixture(autouse=True)
def _no_exception_is_lost(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    lost = [*_lost]
    _lost.clear()
    # What a failed test leaves behind is no news.
    if lost and not request.session.testsfailed:
        pytest.fail("this test, or one before it, lost an exception:\n" + "\n".join(lost), pytrace=False)
