"""The files that lie beside a LoRA, found without looking at a large folder more than once."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from pathlib import Path

from ..text import normal

MOST = 64  # folders that are remembered
SETTLED = 2.0  # seconds: a folder that changed less long ago may change again within one step of its clock

_lock = threading.Lock()
_folders: OrderedDict[str, tuple[int, dict[str, str]]] = OrderedDict()


def beside(path: Path, suffixes: tuple[str, ...], *, whole_name: bool = False) -> list[Path]:
    """Return the files called like `path` with one of the suffixes instead of its own, in the suffixes' order.

    Upper and lower case are the same. With `whole_name` the suffixes follow the name with its own suffix.
    """
    names = _names_in(path.parent)
    stem = path.name if whole_name else path.stem
    found = [names.get(_key(stem + suffix)) for suffix in suffixes]
    return [path.parent / name for name in found if name is not None]


def _names_in(folder: Path) -> dict[str, str]:
    """Return the folder's files by their names in lower case; nothing for a folder that can't be read."""
    try:
        mtime = folder.stat().st_mtime_ns
        with _lock:
            known = _folders.get(str(folder))
            if known and known[0] == mtime:
                _folders.move_to_end(str(folder))
                return known[1]
        names = {_key(name): name for name in os.listdir(folder)}  # noqa: PTH208 - names alone, at a third of the time
    except (OSError, ValueError):
        return {}
    if time.time_ns() - mtime > SETTLED * 1e9:
        with _lock:
            _folders[str(folder)] = mtime, names
            while len(_folders) > MOST:
                _folders.popitem(last=False)
    return names


def _key(name: str) -> str:
    return normal(name).casefold()
