"""What killed processes left in a folder: unfinished files and folders, and old folders that had made room.

The names tell: `temporary_name` puts the target's name and the process's number into them.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..text import size_text, some_names
from .outputs import REPLACED

_NAME = re.compile(r"\.(?P<target>.+)\.(?P<pid>\d{1,10})-[0-9a-z_]{8}\.(partial|replaced)", re.DOTALL)
_STARTED = time.time()
ABANDONED = 24 * 3600  # seconds without a change after which a process of that number must be another one


@dataclass(frozen=True, slots=True)
class Leftover:
    """One of them."""

    path: Path
    target: Path  # what it was to become, or was; its name is cut if it is very long
    nbytes: int
    idle: float  # seconds since it was last written to
    is_in_use: bool  # its process still runs

    @property
    def is_replaced(self) -> bool:
        """Whether it is an old folder that made room for a new one."""
        return self.path.name.endswith(REPLACED)

    @property
    def is_only_copy(self) -> bool:
        """Whether it is an old folder whose successor has not come."""
        return self.is_replaced and not self.target.exists()

    def clear(self) -> None:
        """Put an old folder back if nothing has taken its place, else remove what was left; raises OSError."""
        if self.is_only_copy:
            self.path.rename(self.target)
        elif self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path)
        else:
            self.path.unlink()


def leftovers_in(folder: Path) -> list[Leftover]:
    """Return what was left in a folder, by name; raises OSError if it can't be listed."""
    with os.scandir(folder) as entries:
        named = sorted((entry.name, match) for entry in entries if (match := _NAME.fullmatch(entry.name)))
    found: list[Leftover] = []
    for name, match in named:
        with suppress(OSError):  # just finished
            found.append(_leftover(folder / name, folder / match["target"], int(match["pid"])))
    return found


def put_back(target: Path) -> None:
    """Give an old folder its name again, if the process that renamed it was killed before it had put the new there."""
    with suppress(OSError):
        for left in leftovers_in(target.parent):
            if left.target == target and left.is_only_copy and not left.is_in_use:
                left.clear()


def _leftover(path: Path, target: Path, pid: int) -> Leftover:
    stats = [path.lstat(), *(item.lstat() for item in (path.rglob("*") if path.is_dir() else ()))]
    idle = max(0.0, time.time() - max(stat.st_mtime for stat in stats))  # a clock may have been set back
    is_ours = pid == os.getpid()  # in a container every start may get the same number
    is_in_use = idle < (time.time() - _STARTED if is_ours else ABANDONED) and _is_running(pid)
    return Leftover(path, target, sum(stat.st_size for stat in stats), idle, is_in_use)


def _is_running(pid: int) -> bool:
    """Tell whether there is a process of this number; on Windows, where asking would end it, always yes."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        pass
    return True


def told_of(folder: Path) -> list[str]:
    """Return a report's note on what interrupted runs left in the folder of its output; none if nothing was."""
    try:
        found = [left for left in leftovers_in(folder) if not left.is_in_use]
    except OSError:  # it can be written to and not listed
        return []
    if not found:
        return []
    size = size_text(sum(left.nbytes for left in found))
    return [
        f"left in this folder by interrupted runs, {size}: {some_names([left.path.name for left in found])}; "
        "delete it, or run `lora-core leftovers FOLDER --remove`"
    ]
