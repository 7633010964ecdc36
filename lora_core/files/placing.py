"""How what is finished gets its name: in one step, on disk, with the replaced file's mode; on Windows with patience."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..errors import OutputError

# Errors of Windows that often pass: access denied, in use by another program, locked, mapped into memory
BUSY = frozenset((5, 32, 33, 1224))
WAITS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # seconds between attempts: virus scanners and indexers let go by then
# Errors of a flush that mean a failing or full disk; some network file systems refuse to flush a folder with others
_LOSSES = frozenset((errno.EIO, errno.ENOSPC, errno.EDQUOT))


def give_name(temporary: Path, path: Path, overwrite: bool) -> None:
    """Rename, replacing what is there only if `overwrite` allows it; raises FileExistsError or another OSError."""
    if overwrite:
        patiently(lambda: temporary.replace(path))
        return
    try:
        path.hardlink_to(temporary)  # fails if the name was taken meanwhile, where replace would overwrite
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(path) from None
        patiently(lambda: temporary.replace(path))
    else:
        with suppress(OSError):  # a second name of what is complete now; who made it looks whether it is left
            patiently(temporary.unlink)


def patiently(action: Callable[[], object]) -> None:
    """Do it, again and again for a few seconds while Windows says that another program is in the way."""
    for seconds in WAITS:
        try:
            action()
        except OSError as error:
            if not is_busy(error):
                raise
            time.sleep(seconds)
        else:
            return
    action()


def is_busy(error: OSError) -> bool:
    """Tell whether Windows says that another program holds the file."""
    return getattr(error, "winerror", None) in BUSY


def take_mode(temporary: Path, path: Path) -> None:
    """Give a file the mode and, where that is allowed, the owner of the file that it will replace."""
    try:
        old = path.stat()
    except OSError:  # there is none
        return
    with suppress(OSError):  # another's file, or a file system without owners
        if hasattr(os, "chown"):
            os.chown(temporary, old.st_uid, old.st_gid)
    with suppress(OSError):  # a file system without modes
        temporary.chmod(stat.S_IMODE(old.st_mode))


def sync_directory(folder: Path) -> None:
    """Flush a folder's list of names; raises OSError if the disk fails."""
    if sys.platform == "win32":  # Windows can't open a folder to flush it
        return
    try:
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in _LOSSES:
            raise


def sync_name(path: Path) -> None:
    """Flush the name that a finished file has got; raises OutputError if the disk fails."""
    try:
        sync_directory(path.parent)
    except OSError as error:
        raise OutputError(
            f"{path.name}: is complete, but the disk failed to keep its name ({error.strerror}); check the disk, and "
            "whether the file is still there after a restart."
        ) from error
