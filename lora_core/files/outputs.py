"""How bytes get onto the disk: checks beforehand, temporary names, whole writes, copies in the kernel."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

from ..errors import OutputError
from .names import LONGEST, is_possible
from .openfile import SEEKING, read_exactly

COPY_BYTES = 64 * 2**20  # how much is copied between two looks at the cancel callback
# what helps against an error of the system
_ADVICE = {
    errno.ENOSPC: "; free some space, or write to another disk",
    errno.EDQUOT: "; your quota of this disk is used up: free some of it, or write to another disk",
    errno.EFBIG: "; the file system or a limit allows no file of this size (FAT32: 4 GB): write to another disk",
    errno.EROFS: "; this disk can only be read: write to another",
    errno.EACCES: "; check who may write to the folder, or choose another",
    errno.EIO: "; the disk or the connection to it failed: check it, or write to another",
}
NOTHING_KEPT = "nothing was kept"  # in messages; told otherwise where something is left
_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO))  # other errors: it can't be asked
PARTIAL, REPLACED = ".partial", ".replaced"  # endings: of what is being written, and of a folder that makes room for it
WRITE_BYTES = 2**20  # in one system call: with more, a kernel may spend most of its time looking for large pages


def check_target(
    path: Path, overwrite: bool, inputs: Iterable[Path], size: int = 0, *, ending: str = ".safetensors"
) -> None:
    """Raise OutputError if a file of `size` bytes can't be written to `path`, or must not."""
    if path.suffix != ending:
        raise OutputError(f"{path.name}: the output's name must end in {ending}.")
    check_place(path)
    with as_output_error(path):
        _check_name(path, overwrite, inputs)
    needs_space(path, size)


def _check_name(path: Path, overwrite: bool, inputs: Iterable[Path]) -> None:
    if path.exists() or path.is_symlink():
        for source in inputs:
            if source.exists() and path.exists() and path.samefile(source):
                raise OutputError(f"{path.name}: is also an input; choose another name for the output.")
        if not overwrite:
            raise OutputError(f"{path.name}: already exists; choose another name or allow overwriting.")
        if not path.is_file() or path.is_symlink():
            raise OutputError(f"{path.name}: is not a regular file and won't be replaced.")


def check_place(path: Path) -> None:
    """Raise OutputError unless `path` has a name that this system can give, in a folder that is there."""
    if not is_possible(path.name):
        raise OutputError(f"{path.name[:80]}: no file can have this name; choose one of at most {LONGEST} bytes.")
    with as_output_error(path):  # a folder that may not be searched, or a path longer than any can be
        is_there = path.parent.is_dir()
    if not is_there:
        raise OutputError(f"{path.name}: the folder {path.parent} does not exist; create it first.")


def needs_space(path: Path, size: int) -> None:
    """Raise OutputError unless the disk has room for `size` bytes at `path`, and some to spare.

    Some network drives do not say, or say that they have no size at all: then writing will tell.
    """
    try:
        total, _, free = shutil.disk_usage(path.parent)
    except OSError:
        return
    if total <= 0 or free < 0:
        return
    needed = size + size // 20 + 64 * 2**20
    if free < needed:
        raise OutputError(f"{path.name}: not enough disk space: needs {needed} bytes with reserve, {free} are free.")


def temporary_name(name: str, ending: str = PARTIAL) -> str:
    """Return a name that nothing has yet, for what will be `name`; `leftovers` reads it again."""
    start = name.encode("utf-8", "replace")[:180].decode("utf-8", "ignore")  # a name has at most 255 bytes
    return f".{start}.{os.getpid()}-{uuid.uuid4().hex[:8]}{ending}"


class as_output_error:  # noqa: N801  (reads as a phrase: `with as_output_error(path)`)
    """Turns an OSError of writing into an OutputError that names the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(error, FileExistsError):
            raise OutputError(f"{self._path.name}: already exists; another job wrote it meanwhile.") from error
        if isinstance(error, OSError):
            reason, advice = error.strerror or str(error), _ADVICE.get(error.errno or 0, "")
            raise OutputError(f"{self._path.name}: can't be written: {reason}; {NOTHING_KEPT}{advice}.") from error


def write_all(fd: int, data: memoryview, offset: int) -> None:
    done = 0
    while done < len(data):
        part = data[done : done + WRITE_BYTES]
        if hasattr(os, "pwrite"):
            done += os.pwrite(fd, part, offset + done)
        else:
            with SEEKING:  # Windows has no positional write
                os.lseek(fd, offset + done, os.SEEK_SET)
                done += os.write(fd, part)


def copy_bytes(
    source: Path,
    source_fd: int,
    start: int,
    fd: int,
    offset: int,
    length: int,
    on_bytes: Callable[[int], None] | None,
) -> None:
    """Copy bytes file to file: inside the kernel where it can, through a bounded buffer otherwise."""
    done, in_kernel = 0, hasattr(os, "copy_file_range")
    buffer = memoryview(bytearray(0))
    while done < length:
        count = min(COPY_BYTES, length - done)
        if in_kernel:
            try:
                copied = os.copy_file_range(source_fd, fd, count, start + done, offset + done)
            except OSError:  # another file system, or one that can't: the buffer always works
                copied = 0
            in_kernel = copied > 0
        else:
            buffer = buffer or memoryview(bytearray(min(length, WRITE_BYTES)))
            copied = min(count, WRITE_BYTES)
            read_exactly(source, source_fd, buffer[:copied], start + done)
            write_all(fd, buffer[:copied], offset + done)
        done += copied
        if on_bytes and copied:
            on_bytes(copied)


def reserve(fd: int, size: int) -> None:
    """Take the space now where the file system can, so that a full disk is known before the work."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise
