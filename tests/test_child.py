"""A child of `up` ends when its parent dies and reports to it; a process that nobody started does neither."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from eventrouter import child

WATCH = "import time, signal, sys; from eventrouter import child; assert child.attach(); "


@pytest.fixture
def line():
    """Both ends of a child's line."""
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def start(code: str, line, **environment: str) -> subprocess.Popen:
    _, theirs = line
    environment = os.environ | {child.LINE_VARIABLE: str(theirs.fileno())} | environment
    process = subprocess.Popen([sys.executable, "-c", WATCH + code], pass_fds=[theirs.fileno()], env=environment)
    theirs.close()
    return process


def test_a_report_reaches_the_parent_as_a_line_of_json(line):
    process = start("child.report(destinations=2); child.report(ready=True)", line)
    process.wait()
    lines = line[0].makefile().read().splitlines()
    assert [json.loads(text) for text in lines] == [{"destinations": 2}, {"ready": True}]


def test_a_child_gets_a_sigterm_when_its_parent_dies(line):
    process = start("signal.signal(15, lambda *_: sys.exit(7)); child.report(a=1); time.sleep(60)", line)
    line[0].recv(100)
    line[0].close()
    assert process.wait(10) == 7


def test_a_child_that_does_not_drain_ends_anyway(line):
    code = "child.DRAIN_SECONDS = 0.2; signal.signal(15, signal.SIG_IGN); child.report(a=1); time.sleep(60)"
    process = start(code, line)
    line[0].recv(100)
    started = time.monotonic()
    line[0].close()
    assert process.wait(10) == 1
    assert time.monotonic() - started < 5


def test_a_parent_that_is_killed_leaves_no_child_behind():
    # The parent is a process of its own here, so that it can be killed.
    code = f"""
import os, socket, subprocess, sys, time
ours, theirs = socket.socketpair()
os.environ[{child.LINE_VARIABLE!r}] = str(theirs.fileno())
code = {WATCH!r} + "print(os.getpid(), flush=True); time.sleep(60)"
subprocess.Popen([sys.executable, "-c", "import os; " + code], pass_fds=[theirs.fileno()])
theirs.close()
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    parent.stdout.readline()
    os.kill(parent.pid, signal.SIGKILL)
    # The pipe ends when both have ended.
    assert parent.communicate(timeout=10) == (b"", None)


@pytest.mark.parametrize(("value", "alone", "replaces"), [("0", False, False), ("1", True, False), ("2", True, True)])
def test_whether_it_is_the_only_worker_comes_from_the_parent(line, value, alone, replaces):
    code = "child.report(alone=child.is_alone(), replaces=child.is_replacement())"
    process = start(code, line, **{child.ALONE_VARIABLE: value})
    process.wait()
    assert json.loads(line[0].recv(100)) == {"alone": alone, "replaces": replaces}


def test_a_process_without_a_parent_is_left_alone(monkeypatch):
    monkeypatch.delenv(child.LINE_VARIABLE, raising=False)
    monkeypatch.delenv(child.ALONE_VARIABLE, raising=False)
    assert (child.attach(), child.is_attached(), child.is_alone(), child.report(a=1)) == (False,) * 4
