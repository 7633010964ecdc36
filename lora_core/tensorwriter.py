"""safetensors files, written: names, dtypes and shapes first, then tensor by tensor, and a file only when complete."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import struct
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from .errors import OutputError
from .lazytorch import torch
from .openfile import hashed_range, read_exactly
from .tensorfile import TensorFile, byte_view, read_header
from .tensorheader import DTYPES, MAX_HEADER_BYTES, TensorInfo, element_count

COPY_BYTES = 64 * 2**20  # how much is copied between two looks at the cancel callback


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """A tensor of a file to be written: known before any data is."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return element_count(self.shape) * DTYPES[self.dtype][0]


class TensorWriter:
    """Writes a safetensors file whose names, dtypes and shapes are known first, tensor by tensor in any order.

    Use as a context manager; `commit()` makes the file appear under its name, complete and on disk. Without it, and on
    any exception, nothing is left. `inputs` are files that must not be overwritten, whatever name they go by.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        plan: Sequence[PlannedTensor],
        metadata: Mapping[str, str] | None = None,
        *,
        overwrite: bool = False,
        inputs: Iterable[Path] = (),
    ) -> None:
        self.path = Path(path)
        self._overwrite = overwrite
        self._infos, header = _layout(self.path, plan, metadata or {})
        self.size = len(header) + sum(info.nbytes for info in self._infos.values())
        self._missing = set(self._infos)
        self._digests: dict[str, bytes] = {}
        self._copied: dict[str, TensorFile] = {}
        check_target(self.path, overwrite, inputs, self.size)
        self._temporary = self.path.with_name(_temporary_name(self.path.name))
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        with _as_output_error(self.path):
            self._fd = os.open(self._temporary, flags, 0o666)  # less the umask, as any new file
        try:
            with _as_output_error(self.path):
                _reserve(self._fd, self.size)
                _write_all(self._fd, memoryview(header), 0)
        except BaseException:
            self.discard()
            raise

    def __enter__(self) -> TensorWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.discard()

    def put(self, name: str, tensor: torch.Tensor) -> None:
        """Write one tensor; dtype and shape must be the planned ones."""
        info = self._infos[name]
        expected = getattr(torch, DTYPES[info.dtype][1])
        if tensor.dtype != expected or tuple(tensor.shape) != info.shape:
            raise OutputError(
                f"{self.path.name}: tensor {name!r} was planned as {expected} {info.shape}, "
                f"got {tensor.dtype} {tuple(tensor.shape)}."
            )
        if info.nbytes:
            self._put_bytes(info, byte_view(tensor))
        self._missing.discard(name)

    def copy(self, name: str, source: TensorFile, on_bytes: Callable[[int], None] | None = None) -> None:
        """Copy one tensor's bytes from `source`, which has it under the same name, dtype and shape."""
        there, here = source[name], self._infos[name]
        if (there.dtype, there.shape) != (here.dtype, here.shape):
            raise OutputError(f"{self.path.name}: tensor {name!r} differs from the one to copy.")
        with _as_output_error(self.path):
            _copy_range(source, there.start, self._fd, here.start, here.nbytes, on_bytes)
        self._copied[name] = source
        self._missing.discard(name)

    def commit(self, *, verify: bool = False) -> None:
        """Check, flush to disk, and give the file its name. `verify` also reads every tensor back."""
        if self._missing:
            raise OutputError(f"{self.path.name}: {len(self._missing)} planned tensors were not written.")
        with _as_output_error(self.path):
            os.fsync(self._fd)
            self._check_written(verify)
            if self.path.exists():
                self._temporary.chmod(stat.S_IMODE(self.path.stat().st_mode))
            os.close(self._fd)
            self._fd = -1
            _give_name(self._temporary, self.path, self._overwrite)
            _sync_directory(self.path.parent)

    def discard(self) -> None:
        """Remove the temporary file, if it still is one."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._temporary.unlink(missing_ok=True)

    def _put_bytes(self, info: TensorInfo, data: memoryview) -> None:
        with _as_output_error(self.path):
            _write_all(self._fd, data, info.start)
        self._digests[info.name] = hashlib.sha256(data).digest()

    def _check_written(self, verify: bool) -> None:
        size = os.fstat(self._fd).st_size
        if size != self.size:
            raise OutputError(f"{self.path.name}: wrote {size} bytes, planned {self.size}; nothing was kept.")
        _, infos, _ = read_header(self._temporary, self._fd, size)
        if infos != self._infos:
            raise OutputError(f"{self.path.name}: the header read back differs from the planned one; nothing was kept.")
        for name, info in infos.items() if verify else ():
            source = self._copied.get(name)
            written = hashed_range(self._temporary, self._fd, info.start, info.nbytes)
            expected = source.hashed(name) if source else self._digests.get(name, written)
            if written != expected:
                raise OutputError(f"{self.path.name}: tensor {name!r} reads back differently; nothing was kept.")


def _layout(
    path: Path, plan: Sequence[PlannedTensor], metadata: Mapping[str, str]
) -> tuple[dict[str, TensorInfo], bytes]:
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for tensor in plan:
        if tensor.name in header:
            raise OutputError(f"{path.name}: tensor {tensor.name!r} is planned twice.")
        end = offset + tensor.nbytes
        header[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)  # data starts aligned, as the reference writer does
    if len(text) > MAX_HEADER_BYTES:
        raise OutputError(f"{path.name}: the header would need {len(text)} bytes; the limit is {MAX_HEADER_BYTES}.")
    start = 8 + len(text)
    infos = {
        tensor.name: TensorInfo(
            tensor.name,
            tensor.dtype,
            tensor.shape,
            start + header[tensor.name]["data_offsets"][0],
            tensor.nbytes,
        )
        for tensor in plan
    }
    return infos, struct.pack("<Q", len(text)) + text


def check_target(path: Path, overwrite: bool, inputs: Iterable[Path], size: int = 0) -> None:
    """Raise OutputError if a file of `size` bytes can't be written to `path`, or must not."""
    if path.suffix != ".safetensors":
        raise OutputError(f"{path.name}: the output's name must end in .safetensors.")
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"{path.name}: the folder {folder} does not exist; create it first.")
    if path.exists() or path.is_symlink():
        for source in inputs:
            if source.exists() and path.exists() and path.samefile(source):
                raise OutputError(f"{path.name}: is also an input; choose another name for the output.")
        if not overwrite:
            raise OutputError(f"{path.name}: already exists; choose another name or allow overwriting.")
        if not path.is_file() or path.is_symlink():
            raise OutputError(f"{path.name}: is not a regular file and won't be replaced.")
    free = shutil.disk_usage(folder).free
    needed = size + size // 20 + 64 * 2**20
    if free < needed:
        raise OutputError(f"{path.name}: not enough disk space: needs {needed} bytes with reserve, {free} are free.")


def _temporary_name(name: str) -> str:
    start = name.encode("utf-8", "replace")[:180].decode("utf-8", "ignore")  # a name has at most 255 bytes
    return f".{start}.{os.getpid()}-{uuid.uuid4().hex[:8]}.partial"


class _as_output_error:  # noqa: N801  (reads as a phrase: `with _as_output_error(path)`)
    """Turns an OSError of writing into an OutputError that names the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(error, FileExistsError):
            raise OutputError(f"{self._path.name}: already exists; another job wrote it meanwhile.") from error
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise OutputError(f"{self._path.name}: can't be written: {reason}; nothing was kept.") from error


def _write_all(fd: int, data: memoryview, offset: int) -> None:
    done = 0
    while done < len(data):
        part = data[done : done + COPY_BYTES]
        if hasattr(os, "pwrite"):
            done += os.pwrite(fd, part, offset + done)
        else:  # Windows has no positional write
            os.lseek(fd, offset + done, os.SEEK_SET)
            done += os.write(fd, part)


def _copy_range(
    source: TensorFile, start: int, fd: int, offset: int, length: int, on_bytes: Callable[[int], None] | None
) -> None:
    """Copy bytes file to file: inside the kernel where it can, through a bounded buffer otherwise."""
    done, in_kernel = 0, hasattr(os, "copy_file_range")
    while done < length:
        count = min(COPY_BYTES, length - done)
        if in_kernel:
            try:
                copied = os.copy_file_range(source.fileno(), fd, count, start + done, offset + done)
            except OSError:  # another file system, or one that can't: the buffer always works
                copied = 0
            in_kernel = copied > 0
        else:
            copied = min(count, 8 * 2**20)
            buffer = memoryview(bytearray(copied))
            read_exactly(source.path, source.fileno(), buffer, start + done)
            _write_all(fd, buffer, offset + done)
        done += copied
        if on_bytes and copied:
            on_bytes(copied)


def _reserve(fd: int, size: int) -> None:
    """Take the space now where the file system can, so that a full disk is known before the work."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise


def _give_name(temporary: Path, path: Path, overwrite: bool) -> None:
    if overwrite:
        temporary.replace(path)
        return
    try:
        path.hardlink_to(temporary)  # fails if the name was taken meanwhile, where replace would overwrite
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(path) from None
        temporary.replace(path)
    else:
        temporary.unlink()


def _sync_directory(folder: Path) -> None:
    if sys.platform == "win32":  # Windows can't open a folder to flush it
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError:  # some network file systems refuse; the rename itself has happened
        pass
    finally:
        os.close(fd)
