"""Locks that tell what a running process writes from what a killed one left: the kernel frees them when it ends.

A number of a process tells nothing of another container or machine that writes to the same disk.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Literal

if sys.platform != "win32":
    import fcntl

LOCK_FILE = ".lock"  # in a folder that is being written: no lock on a folder reaches a server
# File systems of one machine, whose locks are seen by every process that can see the file
_OF_ONE_MACHINE = frozenset((
    *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "bcachefs", "f2fs", "jfs", "reiserfs", "nilfs2", "tmpfs", "ramfs"),
    *("overlay", "aufs", "vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk", "hfs", "hfsplus", "apfs"),
))  # fmt: skip
_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")

State = Literal["held", "free", "unknown"]


def take(fd: int) -> State:
    """Lock an open file or folder until it is closed: "free" if it was, and now is ours."""
    if sys.platform == "win32":
        return "unknown"
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "held"
    except OSError:  # a file system without locks
        return "unknown"
    return "free"


class Lock:
    """A lock on a file or folder, held until it is left; none where that can't be. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        self._path, self._fd = path, -1
        self.state: State = "unknown"

    def __enter__(self) -> Lock:
        with suppress(OSError):
            self._fd = _opened(self._path)
            self.state = take(self._fd)
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def lock_state(path: Path) -> State:
    """Tell whether a process holds a file or folder; links are not followed."""
    try:
        fd = _opened(path)
    except OSError:
        return "unknown"
    try:
        state = take(fd)
        if state == "free" and _is_held_from_afar(fd):
            state = "held"
    finally:
        os.close(fd)
    inner = path / LOCK_FILE
    return lock_state(inner) if state == "free" and path.is_dir() and os.path.lexists(inner) else state


def _opened(path: Path) -> int:
    """Open a file or folder to lock it; a server wants a file open for writing for that."""
    more = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        return os.open(path, os.O_RDWR | more)
    except (IsADirectoryError, PermissionError):
        return os.open(path, os.O_RDONLY | more)


def _is_held_from_afar(fd: int) -> bool:
    """Tell whether a client of this machine's disk holds the file: a server knows their locks as locks of ranges."""
    if sys.platform != "win32":
        try:
            fcntl.flock(fd, fcntl.LOCK_UN)  # on a client it is such a lock itself
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in (errno.EAGAIN, errno.EACCES)
    return False


def can_tell(folder: Path) -> bool:
    """Tell whether a free lock in this folder means that no process anywhere writes: known of Linux' disks alone."""
    with suppress(OSError, ValueError):
        place, found = os.path.realpath(folder), ("", "")  # a mount and its type
        for line in _MOUNTS.read_text("utf-8", "surrogateescape").splitlines():
            left, _, right = line.partition(" - ")
            mount = _ESCAPED.sub(lambda found: chr(int(found[1], 8)), left.split(" ")[4])
            is_above = place == mount or place.startswith(mount.rstrip("/") + "/")
            if is_above and len(mount) >= len(found[0]):  # of two on one folder the later counts
                found = mount, right.split(" ")[0]
        return found[1] in _OF_ONE_MACHINE
    return False
