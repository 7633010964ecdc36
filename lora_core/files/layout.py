"""The layout of a safetensors file to be written: where each tensor will lie, and the header that says so."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..text import storable
from .dtypes import DTYPES
from .tensorheader import MAX_HEADER_BYTES, TensorInfo, element_count

PAGE = 4096  # bytes of a page of memory, and of a block of most file systems


@dataclass(frozen=True, slots=True)
class PlannedTensor:
    """A tensor of a file to be written: known before any data is."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return element_count(self.shape) * DTYPES[self.dtype][0]


def laid_out(
    path: Path, plan: Sequence[PlannedTensor], metadata: Mapping[str, str], like: int | None, spare: int = 0
) -> tuple[dict[str, TensorInfo], bytes]:
    """Return (infos, header) of a file with these tensors in this order.

    `like` is where the data of another file starts; here it starts at the same place within a page, if that is aligned.
    `spare` bytes more are left for metadata that is not known yet.
    """
    header = _header(path, plan, metadata)
    text = header_text(header) + b" " * spare
    text += b" " * (-len(text) % 8)  # data starts aligned, as the reference writer does
    if like is not None and like % 8 == 0:
        text += b" " * ((like - 8 - len(text)) % PAGE)
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


def refilled(path: Path, plan: Sequence[PlannedTensor], metadata: Mapping[str, str], size: int) -> bytes:
    """Return a header of `size` bytes with other metadata; raises OutputError if it has no room for them."""
    text = header_text(_header(path, plan, metadata))
    if 8 + len(text) > size:
        raise OutputError(f"{path.name}: the header has room for {size} bytes, and needs {8 + len(text)}.")
    return struct.pack("<Q", size - 8) + text.ljust(size - 8)


def _header(path: Path, plan: Sequence[PlannedTensor], metadata: Mapping[str, str]) -> dict[str, Any]:
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for tensor in plan:
        if tensor.name in header:
            raise OutputError(f"{path.name}: tensor {tensor.name!r} is planned twice.")
        end = offset + tensor.nbytes
        header[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    return header


def header_text(header: Mapping[str, Any]) -> bytes:
    """Return a header as it is written; a file's name in the metadata may hold bytes that are no UTF-8."""
    metadata = {key: storable(value) for key, value in header.get("__metadata__", {}).items()}
    stored = {**header, "__metadata__": metadata} if metadata else header
    return json.dumps(stored, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def in_written_order(plan: Iterable[PlannedTensor]) -> list[PlannedTensor]:
    """Return the tensors aligned, as the reference writer orders them."""
    return sorted(plan, key=lambda tensor: (-DTYPES[tensor.dtype][0], tensor.name))
