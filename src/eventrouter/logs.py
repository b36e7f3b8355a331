"""Logs, by structlog: readable in a terminal, one JSON object a line elsewhere, on stderr; no secret passes.

Everything else that logs by the standard library (uvicorn, arq, redis, a plugin) goes through the same form.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from .masking import MASK, SECRET_NAME, SHORTEST, Mask, forms, secrets_of

PROCESS_VARIABLE = "EVENTROUTER_PROCESS"
"""The environment variable that holds this process's name among those of `up`, such as `worker-1`."""

_SECRET_TEXT = re.compile(r"(?<=://)[^/@\s\"']+(?=@)|(?<=Basic )[\w+/=-]{6,}|(?<=Bearer )[\w+/=.~-]{6,}")
_QUIET = {"arq.worker": logging.WARNING, "uvicorn.access": logging.WARNING, "asyncio": logging.WARNING}
"""Loggers that tell of every single job or request: heard only at level debug."""

_hidden: set[str] = set()
_mask_hidden = Mask()


def setup(
    level: str = "info", form: Literal["auto", "console", "json"] = "auto", *, stream: TextIO | None = None
) -> None:
    """Sends the logs of this process to `stream` (stderr). May be called again; the last call holds."""
    stream = stream or sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    console = form == "console" or (form == "auto" and stream.isatty())
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
        _name_process,
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*common, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    colors = console and stream.isatty() and not os.environ.get("NO_COLOR")
    # The traceback is plain text in both forms: a rich one would show local variables, hence secrets.
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback)
        if console
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, mask_names, renderer, _mask_line],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(number if number <= logging.DEBUG else max(least, number))
    logging.captureWarnings(True)


def hide(*secrets: str) -> None:
    """From now on these texts appear in no log and no error of this process. Shorter ones than 6 characters stay."""
    _hide(form for secret in secrets if len(secret) >= SHORTEST for form in forms(secret))


def hide_all_of(value: object) -> None:
    """Hides every secret in `value`: a model, a mapping or a sequence, at any depth."""
    _hide(secrets_of(value))


def hide_as(mask: Mask) -> None:
    """Hides what `mask` takes out of texts."""
    _hide(mask.secrets)


def _hide(texts: Iterable[str]) -> None:
    global _mask_hidden
    _hidden.update(texts)
    # A JSON line holds the escaped form, of texts that hold an escape already, too.
    _mask_hidden = Mask([*_hidden, *(json.dumps(text, ensure_ascii=False)[1:-1] for text in _hidden)])


def mask(text: str) -> str:
    """`text` without the hidden secrets, the user and password of URLs, and credentials of HTTP."""
    return _SECRET_TEXT.sub(MASK, _mask_hidden(text))


def mask_names(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A processor: what a key calls a password, token, key, … is not shown, at any depth."""
    return {name: _mask_value(name, value) for name, value in event.items()}


def _mask_value(name: object, value: Any) -> Any:
    if isinstance(name, str) and value is not None and not isinstance(value, bool) and SECRET_NAME.search(name):
        return MASK
    if isinstance(value, Mapping):
        return {inner: _mask_value(inner, item) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mask_value("", item) for item in value]
    return value


def _mask_line(_logger: WrappedLogger, _method: str, line: Any) -> Any:
    return mask(line)


def _name_process(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    if name := os.environ.get(PROCESS_VARIABLE):
        event["process"] = name
    return event
