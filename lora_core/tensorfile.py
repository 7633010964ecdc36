"""safetensors files, read by position: the header without the data, and single tensors.

Reading never maps the file, so a file that is truncated meanwhile is a clear error and not a crash of the process.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .errors import FileChangedError, FileFormatError
from .lazytorch import torch
from .tensorheader import DTYPES, MAX_HEADER_BYTES, TensorInfo, parse_header, refuse_other_formats

READ_BYTES = 64 * 2**20  # at most so much in one system call

OnStep = Callable[[int, int], None]  # (done, total) in bytes or elements; may raise to cancel


class TensorFile(Mapping[str, TensorInfo]):
    """An open safetensors file: a mapping of tensor names to their infos, with positional reads.

    Raises FileFormatError for a file that is missing, truncated or breaks the format or our limits.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._fd = _open_regular(self.path)
        try:
            self._stat = _identity(os.fstat(self._fd))
            self.metadata, self._infos, self.data_start = read_header(self.path, self._fd, self.size)
        except BaseException:
            os.close(self._fd)
            raise

    @property
    def size(self) -> int:
        return self._stat[0]

    def __getitem__(self, name: str) -> TensorInfo:
        return self._infos[name]

    def __iter__(self):
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def fileno(self) -> int:
        return self._fd

    def in_file_order(self) -> list[TensorInfo]:
        return sorted(self._infos.values(), key=lambda info: (info.start, info.nbytes))

    def read(self, name: str) -> bytearray:
        """Return the raw bytes of a tensor."""
        info = self._infos[name]
        buffer = bytearray(info.nbytes)
        read_exactly(self.path, self._fd, memoryview(buffer), info.start)
        return buffer

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor that owns its memory."""
        info = self._infos[name]
        if info.dtype not in DTYPES:
            raise FileFormatError(f"{self.path.name}: tensor {name!r} has dtype {info.dtype}, which can't be read yet.")
        dtype = getattr(torch, DTYPES[info.dtype][1])
        if info.nbytes == 0:  # markers such as `v_pred` hold no data
            return torch.empty(info.shape, dtype=dtype)
        return torch.frombuffer(self.read(name), dtype=dtype).reshape(info.shape)

    def scalar(self, name: str) -> float:
        """Return a one-element tensor's value, without torch."""
        info = self._infos[name]
        raw = bytes(self.read(name))
        if info.dtype == "BF16" and info.nbytes == 2:  # a bfloat16 is the upper half of a float32
            return struct.unpack("<f", b"\0\0" + raw)[0]
        codes = {"F64": "<d", "F32": "<f", "F16": "<e", "I64": "<q", "I32": "<i", "I16": "<h", "I8": "<b", "U8": "<B"}
        code = codes.get(info.dtype)
        if code is None or struct.calcsize(code) != info.nbytes:
            raise FileFormatError(
                f"{self.path.name}: tensor {name!r} must hold one number; found {info.dtype} of shape {info.shape}."
            )
        return float(struct.unpack(code, raw)[0])

    def check_unchanged(self) -> None:
        """Raise FileChangedError if the file was replaced, truncated or written to since it was opened."""
        try:
            by_name = _identity(self.path.stat())
        except OSError as error:
            raise FileChangedError(f"{self.path.name}: disappeared while it was being read.") from error
        if by_name != self._stat or _identity(os.fstat(self._fd)) != self._stat:
            raise FileChangedError(f"{self.path.name}: changed while it was being read; run again when it is complete.")

    def hashed(self, name: str) -> bytes:
        """Return the SHA-256 of one tensor's bytes."""
        return hashed_range(self.path, self._fd, self._infos[name].start, self._infos[name].nbytes)


def byte_view(tensor: torch.Tensor) -> memoryview:
    """Return a tensor's elements as bytes, without a copy where they lie in order in memory."""
    flat: Any = tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy()
    return memoryview(flat)


def dtype_name(dtype: torch.dtype) -> str:
    """Return the header's name of a torch dtype."""
    return next(name for name, (_, attribute) in DTYPES.items() if getattr(torch, attribute, None) is dtype)


def read_header(path: Path, fd: int, size: int) -> tuple[dict[str, str], dict[str, TensorInfo], int]:
    """Return (metadata, infos, offset of the data), or raise FileFormatError saying which rule is broken."""
    head = bytearray(min(size, 16))
    read_exactly(path, fd, memoryview(head), 0)
    length = int.from_bytes(head[:8], "little")
    if length + 8 > size:  # only then, because the first bytes of a length may be those of another format
        refuse_other_formats(path, bytes(head))
    if length > MAX_HEADER_BYTES:
        raise FileFormatError(
            f"{path.name}: not a safetensors file, or its header is above our limit: "
            f"it claims {length} bytes, the limit is {MAX_HEADER_BYTES}."
        )
    if 8 + length > size:
        raise FileFormatError(f"{path.name}: truncated: has {size} bytes, its header alone needs {8 + length}.")
    raw = bytearray(length)
    read_exactly(path, fd, memoryview(raw), 8)
    metadata, infos = parse_header(path, bytes(raw), size)
    return metadata, infos, 8 + length


def _open_regular(path: Path) -> int:
    try:
        # not blocking, because a named pipe would wait for a writer
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
        fd = -1 if path.is_dir() else os.open(path, flags)
    except FileNotFoundError as error:
        raise FileFormatError(f"{path.name}: no such file ({path}).") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise FileFormatError(f"{path.name}: can't be opened: {error}.") from error
    if fd < 0:
        raise FileFormatError(f"{path.name}: is a folder; expected a .safetensors file.")
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileFormatError(f"{path.name}: is not a regular file; expected a .safetensors file.")
    return fd


def _identity(of: os.stat_result) -> tuple[int, int, int]:
    return of.st_size, of.st_mtime_ns, of.st_ino


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


def hashed_range(path: Path, fd: int, start: int, length: int) -> bytes:
    """Return the SHA-256 of a range of a file, through a bounded buffer."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(min(4 * 2**20, length)))
    for offset in range(start, start + length, 4 * 2**20):
        part = buffer[: min(len(buffer), start + length - offset)]
        read_exactly(path, fd, part, offset)
        digest.update(part)
    return digest.digest()


def _pread_into(fd: int, into: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(fd, [into], offset)
    os.lseek(fd, offset, os.SEEK_SET)  # Windows and old macOS have no positional read
    data = os.read(fd, min(len(into), READ_BYTES))
    into[: len(data)] = data
    return len(data)
