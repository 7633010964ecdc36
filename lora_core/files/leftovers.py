"""What killed processes left in a folder: unfinished files and folders, and old folders that had made room.

The names tell: `temporary_name` puts the target's name and the process's number into them. Whether a process still
writes is told by its lock; the number tells only of processes of this machine, or container, that know no locks.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..text import size_text, some_names
from .locks import Lock, can_tell, lock_state
from .outputs import REPLACED

_NAME = re.compile(r"\.(?P<target>.+)\.(?P<pid>\d{1,10})-[0-9a-z_]{8}\.(partial|replaced)", re.DOTALL)
_STARTED = time.time()
ABANDONED = 24 * 3600  # seconds without a change after which no process can be at it any more


@dataclass(frozen=True, slots=True)
class Leftover:
    """One of them."""

    path: Path
    target: Path  # what it was to become, or was; its name is cut if it is very long
    nbytes: int
    idle: float  # seconds since it was last written to
    is_in_use: bool  # its process still runs, or may
    is_known: bool = True  # whether a process runs; no lock tells on some disks

    @property
    def is_replaced(self) -> bool:
        """Whether it is an old folder that made room for a new one."""
        return self.path.name.endswith(REPLACED)

    @property
    def is_only_copy(self) -> bool:
        """Whether it is an old folder whose successor has not come."""
        return self.is_replaced and not os.path.lexists(self.target)

    def clear(self) -> None:
        """Put an old folder back if nothing has taken its place, else remove what was left; raises OSError."""
        with Lock(self.path) as lock:
            if lock.state == "held":
                raise BlockingIOError(errno.EBUSY, "a process has begun to write it")
            if self.is_only_copy:
                self.path.rename(self.target)
            elif self.path.is_dir():
                shutil.rmtree(self.path)
            else:
                self.path.unlink()


def leftovers_in(folder: Path) -> list[Leftover]:
    """Return what was left in a folder, by name; raises OSError if it can't be listed."""
    with os.scandir(folder) as entries:
        named = sorted((entry.name, match) for entry in entries if (match := _NAME.fullmatch(entry.name)))
    is_told = bool(named) and can_tell(folder)
    found: list[Leftover] = []
    for name, match in named:
        with suppress(OSError):  # just finished
            path = folder / name
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) or stat.S_ISDIR(mode):  # a link is nothing that we leave
                found.append(_leftover(path, folder / match["target"], int(match["pid"]), is_told))
    return found


def put_back(target: Path) -> None:
    """Give an old folder its name again, if the process that renamed it was killed before it had put the new there."""
    with suppress(OSError):
        for left in leftovers_in(target.parent):
            is_free = not (left.is_in_use and left.is_known)  # nothing is lost by it
            if left.target == target and left.is_only_copy and is_free:
                left.clear()


def _leftover(path: Path, target: Path, pid: int, is_told: bool) -> Leftover:
    nbytes, last = 0, 0.0
    for found in _stats(path):
        nbytes, last = nbytes + found.st_size, max(last, found.st_mtime)
    idle = max(0.0, time.time() - last)  # a clock may have been set back
    state = lock_state(path)
    is_known = state == "held" or (state == "free" and is_told)
    is_ours = pid == os.getpid()  # in a container every start may get the same number
    limit = time.time() - _STARTED if is_ours and is_known else ABANDONED
    is_in_use = state == "held" or (idle < limit and (not is_known or _is_running(pid)))
    return Leftover(path, target, nbytes, idle, is_in_use, is_known)


def _stats(path: Path) -> Iterator[os.stat_result]:
    """Yield what the system tells of it and of all below it; links are not followed."""
    yield path.lstat()
    for parent, folders, files in os.walk(path):
        for name in (*folders, *files):
            yield Path(parent, name).lstat()


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
