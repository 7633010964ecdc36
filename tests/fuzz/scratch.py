"""A folder for fuzzed files, in memory where the system has such a place."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

IN_MEMORY = Path("/dev/shm")


@cache
def root() -> Path:
    """Make the folder. The process that first asks removes it at its end; a fuzzer, forked from it, may be killed."""
    path, owner = tempfile.mkdtemp(prefix="lora-core-fuzz-", dir=IN_MEMORY if IN_MEMORY.is_dir() else None), os.getpid()
    atexit.register(lambda: shutil.rmtree(path, ignore_errors=True) if os.getpid() == owner else None)
    return Path(path)


def folder(name: str) -> Path:
    """Return the folder of one target."""
    path = root() / name
    path.mkdir(exist_ok=True)
    return path


def written(name: str, data: bytes) -> Path:
    """Return a file of `name` that holds `data`, in the folder of that name."""
    path = folder(name.partition(".")[0]) / name
    path.write_bytes(data)
    return path
