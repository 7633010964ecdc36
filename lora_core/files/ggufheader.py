"""The header of a GGUF file: what each tensor is and where it lies, checked before any of it is believed.

Format: github.com/ggml-org/ggml, docs/gguf.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
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
MAX_KEY_BYTES = 2**16 - 1  # as the format has it
MAX_KEPT = 64  # numbers or texts of an array; longer ones, such as vocabularies, are left out
MAX_TEXT_BYTES = 2**16  # of a text that is kept
MAX_TEXTS = 2_000_000  # in all arrays; a vocabulary with its merges has about half a million


Entry = tuple[str, int, tuple[int, ...], int]  # name, type, sizes as stored, offset


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A value that is too long to be kept."""

    length: int

    def __str__(self) -> str:
        return f"of {self.length} values"


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
        self._raw = file.read(0, min(file.size, MAX_LISTED_BYTES))
        self._texts = 0  # in arrays so far
        self.at = 0

    def broken(self, what: str) -> FileFormatError:
        return FileFormatError(f"{self._file.path.name}: broken GGUF header: {what}; download or copy it again.")

    def skip(self, length: int) -> int:
        """Pass over so many bytes, and return where they began."""
        if length > len(self._raw) - self.at:
            raise self.broken(f"it ends at byte {len(self._raw)}, needs {self.at + length}")
        self.at += length
        return self.at - length

    def take(self, length: int) -> bytearray:
        return self._raw[self.skip(length) : self.at]

    def number(self, code: str) -> Any:
        return struct.unpack_from("<" + code, self._raw, self.skip(struct.calcsize("<" + code)))[0]

    def name(self, limit: int) -> str:
        length = self.number("Q")
        start = self.skip(length)
        if not 0 < length <= limit:
            shown = self._raw[start : start + min(length, 80)].decode("utf-8", "replace")
            raise self.broken(f"a name of {length} bytes ({shown!r}); the limit is {limit}")
        return self._raw[start : self.at].decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            length = self.number("Q")
            start = self.skip(length)
            return LeftOut(length) if length > MAX_TEXT_BYTES else self._raw[start : self.at].decode("utf-8", "replace")
        if kind == _ARRAY:
            return self._array()
        if kind not in _NUMBERS:
            raise self.broken(f"a value of the unknown type {kind}")
        return self.number(_NUMBERS[kind])

    def _array(self) -> list[Any] | LeftOut:
        kind, count = self.number("I"), self.number("Q")
        if kind == _ARRAY or count > len(self._raw):
            raise self.broken(f"an array of {count} values of type {kind}")
        if kind in _NUMBERS and count > MAX_KEPT:
            self.skip(count * struct.calcsize("<" + _NUMBERS[kind]))
            return LeftOut(count)
        if kind == _STRING and count > MAX_KEPT:
            return self._left_out_texts(count)
        return [self.value(kind) for _ in range(count)]

    def _left_out_texts(self, count: int) -> LeftOut:
        self._texts += count
        if self._texts > MAX_TEXTS:
            raise self.broken(f"{self._texts} texts in its arrays; the limit is {MAX_TEXTS}")
        for _ in range(count):
            self.skip(self.number("Q"))
        return LeftOut(count)


def read_gguf_header(file: OpenFile) -> tuple[dict[str, Any], dict[str, GgufInfo]]:
    """Return (the file's own values, infos), or raise FileFormatError saying which rule is broken."""
    reader = _Reader(file)
    magic, version = bytes(reader.take(4)), reader.number("I")
    if magic != b"GGUF" or version not in (2, 3):
        raise reader.broken(f"expected GGUF version 2 or 3, found {magic!r} version {version}")
    tensors, values = reader.number("Q"), reader.number("Q")
    if tensors > MAX_TENSORS or values > MAX_TENSORS:
        raise reader.broken(f"{tensors} tensors and {values} values; the limit is {MAX_TENSORS}")
    metadata = _metadata(reader, values)
    entries = [_entry(reader) for _ in range(tensors)]
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or not 1 <= alignment <= 2**16:
        raise reader.broken(f"an alignment of {alignment!r}")
    start = -(-reader.at // alignment) * alignment
    infos = _infos(reader, metadata, entries, start, file)
    _refuse_overlaps(reader, infos)
    return metadata, infos


def _metadata(reader: _Reader, count: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(count):
        key = reader.name(MAX_KEY_BYTES)
        if key in found:
            raise reader.broken(f"the value {key[:80]!r} twice")
        found[key] = reader.value(reader.number("I"))
    return found


def _infos(
    reader: _Reader, metadata: dict[str, Any], entries: list[Entry], start: int, file: OpenFile
) -> dict[str, GgufInfo]:
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
    return infos


def _refuse_overlaps(reader: _Reader, infos: Mapping[str, GgufInfo]) -> None:
    """Refuse tensors that share bytes: all together they would claim any multiple of the file."""
    end = 0
    for name, info in sorted(infos.items(), key=lambda pair: (pair[1].start, pair[1].nbytes)):
        if info.nbytes and info.start < end:
            raise reader.broken(f"tensor {name[:80]!r} overlaps another")
        end = max(end, info.start + info.nbytes)


def _entry(reader: _Reader) -> Entry:
    name, dimensions = reader.name(MAX_NAME_BYTES), reader.number("I")
    if dimensions > MAX_DIMENSIONS:
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
    is_list = isinstance(shape, (list, tuple)) and len(shape) <= MAX_DIMENSIONS
    is_shape = is_list and all(type(length) is int and length > 0 for length in shape)
    if not is_shape or element_count(shape) != count:
        raise broken(f"tensor {name[:80]!r} of shape {stored} can't have the shape {str(shape)[:80]}")
    return GgufInfo(kind, tuple(shape), stored, start, count // elements * size)
