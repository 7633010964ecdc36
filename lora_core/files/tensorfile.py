"""safetensors files, read by position: the header without the data, and single tensors."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

from ..errors import FileFormatError
from ..lazytorch import torch
from .dtypes import DTYPES, torch_dtype
from .openfile import OpenFile, hashed_range, read_exactly
from .otherformats import HEAD_BYTES, refuse_other_formats, refuse_zeros
from .tensorheader import MAX_HEADER_BYTES, TensorInfo, parse_header
from .tensors import Tensors, memory_for

# How `struct` reads one number of a format
_CODES = {
    "F64": "<d", "F32": "<f", "F16": "<e", "BF16": "<f", "I64": "<q", "I32": "<i", "I16": "<h", "I8": "<b", "U8": "<B"
}  # fmt: skip


class TensorFile(Tensors):
    """An open safetensors file: a mapping of tensor names to their infos, with positional reads.

    Raises FileFormatError for a file that is missing, truncated or breaks the format or our limits.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = OpenFile(self.path, "a .safetensors file")
        try:
            self.metadata, self._infos, self.data_start = read_header(self.path, self.fileno(), self.size)
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        return self._file.size

    def close(self) -> None:
        self._file.close()

    def fileno(self) -> int:
        return self._file.fileno()

    def in_file_order(self) -> list[TensorInfo]:
        return sorted(self._infos.values(), key=lambda info: (info.start, info.nbytes))

    def read(self, name: str) -> bytearray:
        """Return the raw bytes of a tensor."""
        info = self._infos[name]
        return self._file.read(info.start, info.nbytes)

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor that owns its memory."""
        info = self._infos[name]
        if info.dtype not in DTYPES:
            raise FileFormatError(f"{self.path.name}: tensor {name!r} has dtype {info.dtype}, which can't be read yet.")
        dtype = torch_dtype(info.dtype)
        if info.nbytes == 0:  # markers such as `v_pred` hold no data
            return torch.empty(info.shape, dtype=dtype)
        data = memory_for(f"{self.path.name}: tensor {name!r}", info.nbytes)
        self._file.read_into(byte_view(data), info.start)
        return data.view(dtype).reshape(info.shape)

    def read_into(self, name: str, into: memoryview, start: int = 0) -> None:
        """Fill `into` with a tensor's bytes from its byte `start` on."""
        self._file.read_into(into, self._infos[name].start + start)

    def scalar(self, name: str) -> float:
        """Return a one-element tensor's value, without torch."""
        info = self._infos[name]
        self._check_scalar(info)  # before anything is read, whatever its size
        if info.dtype not in _CODES:  # fp8
            return float(self.tensor(name))
        raw = bytes(self.read(name))
        if info.dtype == "BF16":  # the upper half of a float32
            raw = b"\0\0" + raw
        return float(struct.unpack(_CODES[info.dtype], raw)[0])

    def check_unchanged(self) -> None:
        self._file.check_unchanged()

    def hashed(self, name: str) -> bytes:
        """Return the SHA-256 of one tensor's bytes."""
        return hashed_range(self.path, self.fileno(), self._infos[name].start, self._infos[name].nbytes)


def byte_view(tensor: torch.Tensor) -> memoryview:
    """Return a tensor's elements as bytes, without a copy where they lie in order in memory."""
    flat: Any = tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy()
    return memoryview(flat)


def read_header(path: Path, fd: int, size: int) -> tuple[dict[str, str], dict[str, TensorInfo], int]:
    """Return (metadata, infos, offset of the data), or raise FileFormatError saying which rule is broken."""
    head = bytearray(min(size, HEAD_BYTES))
    read_exactly(path, fd, memoryview(head), 0)
    length = int.from_bytes(head[:8], "little")
    if length + 8 > size:  # only then, because the first bytes of a length may be those of another format
        refuse_other_formats(path, bytes(head))
    refuse_zeros(path, bytes(head))
    if length > MAX_HEADER_BYTES:
        raise FileFormatError(
            f"{path.name}: not a safetensors file, or its header is above our limit: "
            f"it claims {length} bytes, the limit is {MAX_HEADER_BYTES}."
        )
    if 8 + length > size:
        raise FileFormatError(
            f"{path.name}: truncated: has {size} bytes, its header alone needs {8 + length}; download or copy it again."
        )
    raw = bytearray(length)
    read_exactly(path, fd, memoryview(raw), 8)
    metadata, infos = parse_header(path, raw, size)
    return metadata, infos, 8 + length
