"""A regular file opened for reading by position, and noticed when it changes meanwhile.

Reading never maps the file, so a file that is truncated meanwhile is a clear error and not a crash of the process.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

from ..errors import FileChangedError, FileFormatError, ShortageError
from ..shortage import lacking

READ_BYTES = 64 * 2**20  # at most so much in one system call
SEEKING = threading.Lock()  # held from a seek to what follows it, where nothing is read or written by position

Mark = tuple[int, int, int, int]  # size, time of the last change, inode, time of the last change of any kind


def mark_of(stat: os.stat_result) -> Mark:
    """Return what tells one state of a file from every other.

    Anybody may set the time of the last change back, nobody that of the inode; on Windows it is the time of creation.
    The device is no part of it: its number may be another one after a restart.
    """
    return stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_ctime_ns


class OpenFile:
    """An open file; raises FileFormatError if there is none that is regular, saying that it should be `expected`."""

    def __init__(self, path: Path, expected: str) -> None:
        self.path = path
        self._fd = _open_regular(path, expected)
        self.mark = mark_of(os.fstat(self._fd))

    @property
    def size(self) -> int:
        return self.mark[0]

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self, offset: int, length: int) -> bytearray:
        buffer = bytearray(length)
        self.read_into(memoryview(buffer), offset)
        return buffer

    def read_into(self, into: memoryview, offset: int) -> None:
        """Fill `into`; several threads may read at once."""
        read_exactly(self.path, self._fd, into, offset)

    def check_unchanged(self) -> None:
        """Raise FileChangedError if the file was replaced, truncated or written to since it was opened."""
        try:
            by_name = mark_of(self.path.stat())
        except OSError as error:
            raise FileChangedError(f"{self.path.name}: disappeared while it was being read.") from error
        if by_name != self.mark or mark_of(os.fstat(self._fd)) != self.mark:
            raise FileChangedError(f"{self.path.name}: changed while it was being read; run again when it is complete.")


def _open_regular(path: Path, expected: str) -> int:
    try:
        _refuse_other_kinds(path, path.stat().st_mode, expected)  # before it is opened, which a device would notice
        # not blocking, because a named pipe that was put there since would wait for a writer
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
        fd = os.open(path, flags)
    except FileNotFoundError as error:
        raise FileFormatError(f"{path.name}: no such file ({path}).") from error
    except FileFormatError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        if lack := lacking(error):  # no fault of the file's: whoever does without a broken one must not do without this
            raise ShortageError(f"{path.name}: can't be opened: {lack}") from error
        raise FileFormatError(f"{path.name}: can't be opened: {error}.") from error
    try:
        _refuse_other_kinds(path, os.fstat(fd).st_mode, expected)
    except FileFormatError:
        os.close(fd)
        raise
    return fd


def _refuse_other_kinds(path: Path, mode: int, expected: str) -> None:
    if stat.S_ISDIR(mode):
        raise FileFormatError(f"{path.name}: is a folder; expected {expected}.")
    if not stat.S_ISREG(mode):
        raise FileFormatError(f"{path.name}: is not a regular file; expected {expected}.")


def read_exactly(path: Path, fd: int, into: memoryview, offset: int) -> None:
    done = 0
    while done < len(into):
        try:
            count = _pread_into(fd, into[done:], offset + done)
        except OSError as error:
            raise FileFormatError(f"{path.name}: can't be read at byte {offset + done}: {error}.") from error
        if count == 0:
            raise FileChangedError(
                f"{path.name}: ends at byte {offset + done}, needs {offset + len(into)}; it was cut while being read."
            )
        done += count


def hashed_range(
    path: Path, fd: int, start: int, length: int, on_bytes: Callable[[int], None] = lambda _: None
) -> bytes:
    """Return the SHA-256 of a range of a file, through a bounded buffer; `on_bytes` is told of what comes next."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(min(4 * 2**20, length)))
    for offset in range(start, start + length, 4 * 2**20):
        part = buffer[: min(len(buffer), start + length - offset)]
        on_bytes(len(part))
        read_exactly(path, fd, part, offset)
        digest.update(part)
    return digest.digest()


def _pread_into(fd: int, into: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(fd, [into], offset)
    with SEEKING:  # Windows and old macOS have no positional read
        os.lseek(fd, offset, os.SEEK_SET)
        data = os.read(fd, min(len(into), READ_BYTES))
    into[: len(data)] = data
    return len(data)


def read_whole(path: Path, limit: int, expected: str) -> bytes:
    """Return what a small file holds. Raises FileFormatError for none that is regular and at most `limit` bytes long,
    saying that it should be `expected`, and FileChangedError for one that is cut meanwhile."""
    file = OpenFile(path, expected)
    try:
        if file.size > limit:
            raise FileFormatError(f"{path.name}: has {file.size} bytes; the limit for {expected} is {limit}.")
        return bytes(file.read(0, file.size))
    finally:
        file.close()


def read_bounded(path: Path, limit: int) -> bytes | None:
    """Return what a regular file holds; None if it can't be read or is larger than `limit` bytes."""
    try:
        return read_whole(path, limit, "a file")
    except (FileFormatError, FileChangedError):
        return None
