"""Machines for tests: network namespaces of this one, on a network of their own, whose cables can be pulled.

Needs Linux, root, and `ip` of iproute2: without them its tests fail, and say so. Run as a script it installs a missing
iproute2, as root on a system that has apt.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
_numbers = itertools.count(1)


class Lan:
    """`with Lan("a", "b") as lan:` makes the machines `a`, `b` and `center`, whose addresses are `lan.address(name)`.

    They reach one another and nothing else. What a thread of a machine (see `inside`, `run`) opens or starts is there.
    """

    def __init__(self, *names: str) -> None:
        self.names = ("center", *names)
        self._prefix = f"er-{os.getpid()}-{next(_numbers)}"

    def __enter__(self) -> Lan:
        check()
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", self.namespace(name)], stderr=subprocess.DEVNULL, check=False)

    def _make(self) -> None:
        for name in self.names:
            _ip("netns", "add", self.namespace(name))
            _ip("-n", self.namespace(name), "link", "set", "lo", "up")
        # The switch is in a namespace, too: no firewall of this machine has a say, and no route of it is touched.
        _ip("-n", self.namespace("center"), "link", "add", "name", "switch", "type", "bridge")
        _ip("-n", self.namespace("center"), "link", "set", "switch", "up")
        _ip("-n", self.namespace("center"), "address", "add", f"{self.address('center')}/24", "dev", "switch")
        for name in self.names[1:]:
            there = ("peer", "name", "eth0", "netns", self.namespace(name))
            _ip("-n", self.namespace("center"), "link", "add", "name", f"to-{name}", "type", "veth", *there)
            _ip("-n", self.namespace("center"), "link", "set", f"to-{name}", "master", "switch", "up")
            _ip("-n", self.namespace(name), "address", "add", f"{self.address(name)}/24", "dev", "eth0")
            _ip("-n", self.namespace(name), "link", "set", "eth0", "up")

    def namespace(self, name: str) -> str:
        """A machine's network namespace, for `ip netns exec`."""
        return f"{self._prefix}-{name}"

    def address(self, name: str) -> str:
        """A machine's address."""
        return f"10.0.0.{1 + self.names.index(name)}"

    def pull(self, name: str) -> None:
        """Pulls the cable of a machine: packets are lost, and nobody is told."""
        _ip("-n", self.namespace("center"), "link", "set", f"to-{name}", "down")

    def plug(self, name: str) -> None:
        """Puts it back."""
        _ip("-n", self.namespace("center"), "link", "set", f"to-{name}", "up")

    def command(self, name: str, *words: str) -> list[str]:
        """The command that runs `words` on a machine."""
        return ["ip", "netns", "exec", self.namespace(name), *words]

    @contextmanager
    def inside(self, name: str) -> Iterator[ThreadPoolExecutor]:
        """One thread of a machine."""
        with ThreadPoolExecutor(1, initializer=_enter, initargs=(self.namespace(name),)) as thread:
            yield thread

    def run(self, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Runs `work` in an event loop on a machine."""
        with self.inside(name) as thread:
            return thread.submit(lambda: asyncio.run(work())).result()


def _enter(namespace: str) -> None:
    """Moves this thread into a namespace."""
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
    finally:
        os.close(descriptor)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


@cache
def check() -> None:
    """Raises `RuntimeError`, with what to do, where machines can't be made."""
    if not shutil.which("ip"):
        raise RuntimeError("The tests need `ip`. Install iproute2 (Debian: apt-get install iproute2)")
    made = subprocess.run(["ip", "netns", "add", f"er-{os.getpid()}-0"], capture_output=True, text=True, check=False)
    if made.returncode:
        raise RuntimeError(
            "The tests need network namespaces, which only root may make; in a container it needs the capabilities"
            f" NET_ADMIN and SYS_ADMIN (docker run --privileged). `ip netns add` says: {made.stderr.strip()}"
        )
    _ip("netns", "delete", f"er-{os.getpid()}-0")


def install_iproute() -> None:
    """Installs Debian's iproute2 where there is none: as root, on a system that has apt. Else leaves all as it is."""
    if sys.platform == "linux" and not shutil.which("ip") and os.geteuid() == 0 and shutil.which("apt-get"):
        print("Installing iproute2 for the tests (once) …", flush=True)
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in ("apt-get update", "apt-get install --yes --no-install-recommends iproute2"):
            done = subprocess.run([*command.split(), "-qq"], env=quiet, capture_output=True, text=True, check=False)
            if done.returncode:
                print(done.stdout, done.stderr, file=sys.stderr)


if __name__ == "__main__":
    install_iproute()
