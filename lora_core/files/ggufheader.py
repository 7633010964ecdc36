"""The header of a GGUF file: what each tensor is and where it lies, checked before any of it is believed.

Format: github.com/ggml-org/ggml, docs/gguf.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import FileFormatError
from .openfile import OpenFile
from .tensorheader import MAX_DIMENSIONS, MAX_LISTED_BYTES, MAX_NAME_BYTES, MAX_TENSORS, element_count

# ggml type number -> (name, elements of a block, bytes of a block)
TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 30: ("BF16", 1, 2), 28: ("F64", 1, 8),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8),
    2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 29: ("IQ1_M", 256, 56), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}  # fmt: skip
ORIGINAL_SHAPE = "comfy.gguf.orig_shape."  # + tensor name: the shape before it was folded to fill blocks

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class GgufInfo:
    """One tensor of a GGUF file."""

    type: int  # key of TYPES
    shape: tuple[int, ...]  # rows first, as everywhere but in GGUF itself
    stored: tuple[int, ...]  # as the blocks lie; another than `shape` if the tensor was folded
    start: int
    nbytes: int


class _Reader:
    def __init__(self, file: OpenFile) -> None:
        self._file = file
        self._raw = bytes(file.read(0, min(file.size, MAX_LISTED_BYTES)))
        self.at = 0

    def broken(self, what: str) -> FileFormatError:
        return FileFormatError(f"{self._file.path.name}: broken GGUF header: {what}; download or copy it again.")

    def take(self, length: int) -> bytes:
        if length > len(self._raw) - self.at:
            raise self.broken(f"it ends at byte {len(self._raw)}, needs {self.at + length}")
        self.at += length
        return self._raw[self.at - length : self.at]

    def number(self, code: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._array()
        if kind not in _NUMBERS:
            raise self.broken(f"a value of the unknown type {kind}")
        return self.number(_NUMBERS[kind])

    def _array(self) -> list[Any]:
        kind, count = self.number("I"), self.number("Q")
        if kind == _ARRAY or count > len(self._raw):
            raise self.broken(f"an array of {count} values of type {kind}")
        if kind in _NUMBERS:
            code = _NUMBERS[kind]
            return list(struct.unpack(f"<{count}{code}", self.take(count * struct.calcsize("<" + code))))
        return [self.value(kind) for _ in range(count)]


def read_gguf_header(file: OpenFile) -> tuple[dict[str, Any], dict[str, GgufInfo]]:
    """Return (the file's own values, infos), or raise FileFormatError saying which rule is broken."""
    reader = _Reader(file)
    magic, version = reader.take(4), reader.number("I")
    if magic != b"GGUF" or version not in (2, 3):
        raise reader.broken(f"expected GGUF version 2 or 3, found {magic!r} version {version}")
    tensors, values = reader.number("Q"), reader.number("Q")
    if tensors > MAX_TENSORS or values > MAX_TENSORS:
        raise reader.broken(f"{tensors} tensors and {values} values; the limit is {MAX_TENSORS}")
    metadata = {reader.text(): reader.value(reader.number("I")) for _ in range(values)}
    entries = [_entry(reader) for _ in range(tensors)]
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 1 <= alignment <= 2**16:
        raise reader.broken(f"an alignment of {alignment!r}")
    start = -(-reader.at // alignment) * alignment
    infos: dict[str, GgufInfo] = {}
    for name, kind, stored, offset in entries:
        if name in infos:
            raise reader.broken(f"tensor {name[:80]!r} twice")
        infos[name] = _info(reader.broken, metadata, name, kind, stored, start + offset)
        end = infos[name].start + infos[name].nbytes
        if end > file.size:
            raise FileFormatError(
                f"{file.path.name}: truncated: has {file.size} bytes, needs {end}; download or copy it again."
            )
    return metadata, infos


def _entry(reader: _Reader) -> tuple[str, int, tuple[int, ...], int]:
    name, dimensions = reader.text(), reader.number("I")
    if not 0 < len(name.encode()) <= MAX_NAME_BYTES or dimensions > MAX_DIMENSIONS:
        raise reader.broken(f"tensor {name[:80]!r} of {dimensions} dimensions")
    stored = tuple(reader.number("Q") for _ in range(dimensions))[::-1]
    return name, reader.number("I"), stored, reader.number("Q")


def _info(
    broken: Callable[[str], FileFormatError],
    metadata: dict[str, Any],
    name: str,
    kind: int,
    stored: tuple[int, ...],
    start: int,
) -> GgufInfo:
    if kind not in TYPES:
        raise broken(f"tensor {name[:80]!r} is of the unknown type {kind}")
    type_name, elements, size = TYPES[kind]
    count, row = element_count(stored), stored[-1] if stored else 1
    if count >= 2**48 or row % elements:
        raise broken(f"tensor {name[:80]!r} of shape {stored} can't be stored as {type_name}")
    shape = metadata.get(ORIGINAL_SHAPE + name, stored)
    is_shape = isinstance(shape, (list, tuple)) and all(type(length) is int and length > 0 for length in shape)
    if not is_shape or element_count(shape) != count:
        raise broken(f"tensor {name[:80]!r} of shape {stored} can't have the shape {shape}")
    return GgufInfo(kind, tuple(shape), stored, start, count // elements * size)
