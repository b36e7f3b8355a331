"""Runs commands in processes forked from one that has imported all of them: each starts in a tenth of the time.

What runs is `eventrouter …` as ever: a process of its own, with its own directory, environment, input and output.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import BinaryIO

import eventrouter
from eventrouter.cli import main

COMMAND = (sys.executable, "-P", "-m", "eventrouter")


def run_command(
    arguments: Sequence[str], environment: Mapping[str, str], directory: Path, stdin: bytes = b"", seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    """Runs `eventrouter …` to its end; its output as text.

    Raises `TimeoutExpired`, having killed it, after so many seconds. Where the environment is to change Python
    itself (`PYTHONPATH` and the like), it is not forked but started.
    """
    command = [*COMMAND, *arguments]
    if _of_python(environment) != _of_python(os.environ):
        done = subprocess.run(
            command, env=environment, cwd=directory, input=stdin, capture_output=True, timeout=seconds, check=False
        )
        return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())
    with contextlib.ExitStack() as stack:
        request, source, out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(4))
        request.write(json.dumps([list(arguments), dict(environment), str(directory)]).encode())
        source.write(stdin)
        for file in (request, source):
            file.seek(0)
        code = _ask(request, source, out, err, command, seconds)
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(command, code, out.read().decode(), err.read().decode())


def _of_python(environment: Mapping[str, str]) -> dict[str, str]:
    names = ("PYTHON", "LANG", "LC_")
    return {name: value for name, value in environment.items() if value and name.startswith(names)}


def _ask(
    request: BinaryIO, source: BinaryIO, out: BinaryIO, err: BinaryIO, command: Sequence[str], seconds: float
) -> int:
    """Has a command run; returns its exit code, a signal's number below zero."""
    answer, its_end = os.pipe()
    with os.fdopen(answer, "rb", buffering=0) as told:
        files = array.array("i", [request.fileno(), source.fileno(), out.fileno(), err.fileno(), its_end])
        _server().sendmsg([b"!"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
        os.close(its_end)
        process = int(told.read(16))
        deadline = time.monotonic() + seconds
        while not select.select([told], [], [], max(0.0, deadline - time.monotonic()))[0]:
            os.kill(process, signal.SIGKILL)
            raise subprocess.TimeoutExpired(command, seconds)
        return int(told.read(16))


@cache
def _server() -> socket.socket:
    """Where the server of this test process takes requests; it ends with this process."""
    ours, its = socket.socketpair()
    with its:
        arguments = [sys.executable, "-P", __file__, str(its.fileno())]
        process = subprocess.Popen(arguments, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL)

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _serve(requests: socket.socket) -> None:
    """Forks a process for each request, which returns from here; the server itself ends when nobody can ask it."""
    for module in pkgutil.walk_packages(eventrouter.__path__, "eventrouter."):
        if not module.name.endswith(("__main__", "pytest_plugin")):
            importlib.import_module(module.name)
    for name in ("aiohttp", "sqlalchemy.dialects.sqlite.aiosqlite"):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, files, _, _ = socket.recv_fds(requests, 1, 5)
        if not message:
            sys.exit()
        if not os.fork():
            break
        for file in files:
            os.close(file)
    requests.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, source, out, err, answer = files
    if process := os.fork():
        os.write(answer, f"{process:16}".encode())
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
            os.write(answer, f"{code:16}".encode())
        os._exit(0)
    os.close(answer)
    for target, file in enumerate((source, out, err)):
        os.dup2(file, target)
        os.close(file)
    with os.fdopen(request, "rb") as file:
        arguments, environment, directory = json.load(file)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(directory)
    sys.argv[1:] = arguments


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as _requests:
        _serve(_requests)
    sys.argv[0] = str(Path(eventrouter.__file__).with_name("__main__.py"))
    __package__ = "eventrouter"  # so that it calls itself `python -m eventrouter`, as the real one does
    code = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)  # to take the interpreter apart would copy all memory that is shared until then
