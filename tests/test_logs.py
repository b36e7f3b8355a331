"""Logs: one form for all loggers, readable in a terminal and JSON elsewhere, and no secret in any of it."""

from __future__ import annotations

import io
import json
import logging

import pytest
import structlog
from pydantic import BaseModel, SecretStr

from eventrouter import logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restore():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    logging.captureWarnings(False)
    logs._hidden.clear()
    logs._hidden_pattern = None


def written(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_elsewhere_each_line_is_a_json_object():
    stream = io.StringIO()
    logs.setup(stream=stream)
    structlog.get_logger("eventrouter.x").info("Turn ended", lane="crm", items=3)
    (line,) = written(stream)
    assert ("Turn ended", "info", "crm", 3) == (line["event"], line["level"], line["lane"], line["items"])
    assert line["timestamp"].endswith("Z")


def test_in_a_terminal_a_line_is_readable():
    stream = Terminal()
    logs.setup(stream=stream)
    structlog.get_logger().warning("Redis is away", seconds=3)
    assert "Redis is away" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_the_form_can_be_chosen():
    stream = Terminal()
    logs.setup(form="json", stream=stream)
    structlog.get_logger().info("hello")
    assert written(stream)[0]["event"] == "hello"


def test_logs_of_the_standard_library_have_the_same_form():
    stream = io.StringIO()
    logs.setup(stream=stream)
    logging.getLogger("uvicorn.error").error("Bad %s", "socket", extra={"port": 80})
    (line,) = written(stream)
    assert ("Bad socket", "error", 80) == (line["event"], line["level"], line["port"])


def test_what_is_below_the_level_is_not_told_nor_is_every_request():
    stream = io.StringIO()
    logs.setup("info", stream=stream)
    structlog.get_logger().debug("noise")
    logging.getLogger("uvicorn.access").info("GET /")
    logging.getLogger("arq.worker").info("0.00s → turn()")
    assert stream.getvalue() == ""


def test_debug_tells_every_request(monkeypatch):
    monkeypatch.setattr(logging.getLogger("uvicorn.access"), "propagate", True)  # a server in this process ends that
    stream = io.StringIO()
    logs.setup("debug", stream=stream)
    logging.getLogger("uvicorn.access").info("GET /")
    assert len(written(stream)) == 1


def test_the_process_is_named(monkeypatch):
    monkeypatch.setenv(logs.PROCESS_VARIABLE, "worker-1")
    stream = io.StringIO()
    logs.setup(stream=stream)
    structlog.get_logger().info("hello")
    assert written(stream)[0]["process"] == "worker-1"


def test_values_with_a_secret_name_are_masked_at_any_depth():
    stream = io.StringIO()
    logs.setup(stream=stream)
    structlog.get_logger().info("x", api_key="k1", headers={"Authorization": "k2", "n": 1}, all=[{"password": "k3"}])
    (line,) = written(stream)
    assert ("**********", {"Authorization": "**********", "n": 1}, [{"password": "**********"}]) == (
        line["api_key"],
        line["headers"],
        line["all"],
    )


@pytest.mark.parametrize("form", ["json", "console"])
def test_hidden_texts_never_show_not_even_in_a_traceback(form):
    class Options(BaseModel):
        key: SecretStr
        more: dict[str, SecretStr]

    logs.hide_all_of([Options(key="s3cret-one", more={"a": 's3cret"two'})])
    stream = io.StringIO()
    logs.setup(form=form, stream=stream)
    try:
        raise ValueError("refused: s3cret-one")
    except ValueError:
        structlog.get_logger().exception('with s3cret"two', key=["s3cret-one"])
    assert "s3cret" not in stream.getvalue()
    assert "ValueError: refused: **********" in stream.getvalue()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("connect to redis://user:pass@host/0", "connect to redis://**********@host/0"),
        ("sent Authorization: Basic ZGV2LXdlYnNpdGU6", "sent Authorization: Basic **********"),
        ("Bearer abc.def-ghi", "Bearer **********"),
        ("https://host/path@here", "https://host/path@here"),
    ],
)
def test_credentials_in_texts_are_masked(text, expected):
    assert expected == logs.mask(text)


def test_a_text_too_short_to_be_a_secret_does_not_spoil_the_logs():
    logs.hide("a", "")
    assert logs.mask("a cat") == "a cat"


def test_setting_up_again_does_not_double_the_lines():
    first, second = io.StringIO(), io.StringIO()
    logs.setup(stream=first)
    logs.setup(stream=second)
    structlog.get_logger().info("once")
    assert ("", 1) == (first.getvalue(), len(written(second)))
