"""A slow, forgetful disk for the embedded Valkey: `power_loss.c`, compiled and preloaded."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("power_loss.c")


def build(directory: Path, source: Path = SOURCE) -> Path:
    """The compiled library. Needs a C compiler: `cc`, or the one in the package ziglang."""
    library = directory / f"{source.stem}.so"
    subprocess.run(
        [*_compiler(), "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source, "-ldl", "-lpthread"],
        check=True,
    )
    return library


def environment(library: Path, *, fsync_ms: str = "", power_loss: bool = False) -> dict[str, str]:
    """The variables that put the disk below every valkey-server that is started with them."""
    return {
        "LD_PRELOAD": str(library),
        "CHAOS_FSYNC_MS": fsync_ms,
        "CHAOS_POWER_LOSS": str(int(power_loss)),
    }


def _compiler() -> list[str]:
    if shutil.which("cc"):
        return ["cc"]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    raise RuntimeError("the power loss tests need a C compiler: install one as `cc`, or `pip install ziglang`")
