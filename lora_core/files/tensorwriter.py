"""safetensors files, written: names, dtypes and shapes first, then tensor by tensor, and a file only when complete."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from ..errors import OutputError
from ..lazytorch import torch
from .dtypes import torch_dtype
from .flushing import Flusher
from .layout import PlannedTensor, laid_out, refilled
from .openfile import hashed_range
from .outputs import (
    NOTHING_KEPT,
    as_output_error,
    check_target,
    copy_bytes,
    reserve,
    write_all,
)
from .placing import is_busy, sync_name
from .private import without_private
from .temporary import Temporary
from .tensorfile import TensorFile, byte_view, read_header


class Sink(Protocol):
    """What takes the tensors of a file that is made: a writer, or what compares them with a file."""

    def put(self, name: str, tensor: torch.Tensor) -> None: ...

    def put_bytes(self, name: str, data: memoryview, start: int = 0) -> None: ...

    def copy(self, names: Sequence[str], source: TensorFile, on_bytes: Callable[[int], None] | None = None) -> None: ...


class TensorWriter:
    """Writes a safetensors file whose names, dtypes and shapes are known first, tensor by tensor in any order.

    Use as a context manager; `commit()` makes the file appear under its name, complete and on disk. Without it, and on
    any exception, nothing is left. `inputs` are files that must not be overwritten, whatever name they go by. `verify`
    keeps a digest of what is written, and reads every tensor back before the commit. Several threads may write at once.
    With `like`, tensors that lie in the same order lie as in that file within pages of memory and blocks of the disk:
    then a copy in the kernel takes less time, and on some file systems none, because both files share the blocks.
    Metadata may be replaced before the commit by some that has up to `spare` bytes more.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        plan: Sequence[PlannedTensor],
        metadata: Mapping[str, str] | None = None,
        *,
        overwrite: bool = False,
        inputs: Iterable[Path] = (),
        verify: bool = False,
        like: TensorFile | None = None,
        spare: int = 0,
    ) -> None:
        self.path = Path(path)
        self._overwrite, self._verify = overwrite, verify
        self._plan, metadata = plan, without_private(metadata or {})
        self._infos, header = laid_out(self.path, plan, metadata, like.data_start if like else None, spare)
        self.size = len(header) + sum(info.nbytes for info in self._infos.values())
        self._missing = set(self._infos)
        self._digests: dict[str, Any] = {}  # hashes of the bytes written so far
        self._copied: dict[str, TensorFile] = {}
        check_target(self.path, overwrite, inputs, self.size)
        self._header = header
        self._temporary = Temporary(self.path)
        self._fd = -1  # until the file is open
        self._flusher: Flusher

    def __enter__(self) -> TensorWriter:
        try:  # an interrupt may come as soon as the file is there
            with as_output_error(self.path):
                fd = self._temporary.create()
                self._flusher, self._fd = Flusher(fd), fd
                reserve(self._fd, self.size)
                write_all(self._fd, memoryview(self._header), 0)
        except BaseException as error:
            self._end(error)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end(error)

    def put(self, name: str, tensor: torch.Tensor) -> None:
        """Write one tensor; dtype and shape must be the planned ones."""
        info = self._infos[name]
        expected = torch_dtype(info.dtype)
        if tensor.dtype != expected or tuple(tensor.shape) != info.shape:
            raise OutputError(
                f"{self.path.name}: tensor {name!r} was planned as {expected} {info.shape}, "
                f"got {tensor.dtype} {tuple(tensor.shape)}."
            )
        if info.nbytes:
            self.put_bytes(name, byte_view(tensor))
        self._missing.discard(name)

    def put_bytes(self, name: str, data: memoryview, start: int = 0) -> None:
        """Write a tensor's bytes from its byte `start` on; what comes in several pieces must come in order."""
        info = self._infos[name]
        if start + len(data) > info.nbytes:
            raise OutputError(f"{self.path.name}: tensor {name!r} has {info.nbytes} bytes, got {start + len(data)}.")
        with as_output_error(self.path):
            write_all(self._fd, data, info.start + start)
        self._flusher.add(len(data))
        if self._verify:
            self._digests.setdefault(name, hashlib.sha256()).update(data)
        if start + len(data) == info.nbytes:
            self._missing.discard(name)

    def copy(self, names: Sequence[str], source: TensorFile, on_bytes: Callable[[int], None] | None = None) -> None:
        """Copy the bytes of tensors that lie one after the other in `source` and in the file to be written."""
        there, here = [source[name] for name in names], [self._infos[name] for name in names]

        def count(nbytes: int) -> None:
            self._flusher.add(nbytes)
            if on_bytes:
                on_bytes(nbytes)

        length = 0
        for one, other in zip(there, here, strict=True):
            places = one.start - there[0].start, other.start - here[0].start
            if (one.dtype, one.shape, *places) != (other.dtype, other.shape, length, length):
                raise OutputError(f"{self.path.name}: tensor {one.name!r} differs from the one to copy.")
            length += one.nbytes
        with as_output_error(self.path):
            copy_bytes(source.path, source.fileno(), there[0].start, self._fd, here[0].start, length, count)
        self._copied.update(dict.fromkeys(names, source))
        self._missing.difference_update(names)

    def change_metadata(self, metadata: Mapping[str, str]) -> None:
        """Write other metadata in place of those that were given at first."""
        self._header = refilled(self.path, self._plan, without_private(metadata), len(self._header))
        with as_output_error(self.path):
            write_all(self._fd, memoryview(self._header), 0)

    def reopened(self) -> TensorFile:
        """Return what is written so far, opened for reading; whoever asks closes it."""
        return TensorFile(self._temporary.path)

    def commit(self) -> None:
        """Check, flush to disk, and give the file its name."""
        if self._missing:
            raise OutputError(f"{self.path.name}: {len(self._missing)} planned tensors were not written.")
        with as_output_error(self.path):
            self._flusher.finish()
            os.fsync(self._fd)
            self._check_written()
            os.close(self._fd)
            self._fd = -1
            self._give_name()
        sync_name(self.path)

    def _give_name(self) -> None:
        try:
            self._temporary.take_name(self._overwrite)
        except OSError as error:
            if not is_busy(error):
                raise
            self._temporary.keep()
            raise OutputError(
                f"{self.path.name}: another program holds the file, so it can't be replaced; the finished file was "
                f"kept beside it as {self._temporary.path.name}: close the program and rename it."
            ) from error

    def _end(self, error: BaseException | None) -> None:
        """Remove the temporary file, if it still is one."""
        try:
            if self._fd >= 0:
                with suppress(OSError):  # nothing of it is kept
                    self._flusher.finish()
                os.close(self._fd)
                self._fd = -1
        finally:  # a second interrupt too
            self._temporary.end(error)

    def _check_written(self) -> None:
        size = os.fstat(self._fd).st_size
        if size != self.size:
            raise OutputError(f"{self.path.name}: wrote {size} bytes, planned {self.size}; {NOTHING_KEPT}.")
        _, infos, _ = read_header(self._temporary.path, self._fd, size)
        if infos != self._infos:
            raise OutputError(f"{self.path.name}: the header read back differs from the planned one; {NOTHING_KEPT}.")
        for name, info in infos.items() if self._verify else ():
            source = self._copied.get(name)
            written = hashed_range(self._temporary.path, self._fd, info.start, info.nbytes)
            digest = self._digests.get(name)  # none of a tensor that has no bytes
            expected = source.hashed(name) if source else digest.digest() if digest else written
            if written != expected:
                raise OutputError(f"{self.path.name}: tensor {name!r} reads back differently; {NOTHING_KEPT}.")
