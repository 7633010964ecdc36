"""A folder for one process's fuzzed files, in memory where the system has such a place."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

IN_MEMORY = Path("/dev/shm")


@cache
def folder(name: str) -> Path:
    """Return an empty folder of this process, removed at its end."""
    path = Path(tempfile.mkdtemp(prefix=f"lora-core-{name}-", dir=IN_MEMORY if IN_MEMORY.is_dir() else None))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def written(name: str, data: bytes) -> Path:
    """Return a file of `name` that holds `data`, in the folder of that name."""
    path = folder(name.partition(".")[0]) / name
    path.write_bytes(data)
    return path
