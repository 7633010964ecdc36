"""The header of a safetensors file: what each tensor is and where it lies, checked before any of it is believed.

Format: github.com/huggingface/safetensors, README "Format". The limits are our own, against headers made to harm.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeGuard

from ..errors import FileFormatError
from ..parallel.asking import each
from ..parallel.collector import collections_paused
from .dtypes import DTYPES, FLOAT_DTYPES
from .longmetadata import without_long_metadata

MAX_HEADER_BYTES = 100_000_000  # as every other reader: captions of a whole data set may be in it
MAX_LISTED_BYTES = 32 * 2**20  # of a header without its metadata, and of any other list of tensors
MAX_TENSORS = 100_000
MAX_NAME_BYTES = 512
MAX_SETTINGS_BYTES = 8 * 2**20  # of one metadata value that is parsed
MAX_DIMENSIONS = 8
MAX_SIGNS = 20 * MAX_TENSORS  # commas and brackets, of which a tensor has 10: each may cost 100 bytes of memory


_SETTINGS = ("lora_adapter_metadata", "_quantization_metadata")  # metadata that says what to do with the tensors


class DuplicateKeyError(ValueError):
    """A JSON object has a key twice, and readers would disagree on which counts."""


def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object, as json's `object_pairs_hook`."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise DuplicateKeyError("a key appears twice")
    return result


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies in a file."""

    name: str
    dtype: str  # the header's name, e.g. "BF16"
    shape: tuple[int, ...]
    start: int  # offset in the file, header included
    nbytes: int

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOAT_DTYPES


def element_count(shape: Iterable[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


@collections_paused()
def parse_header(path: Path, raw: bytes | bytearray, size: int) -> tuple[dict[str, str], dict[str, TensorInfo]]:
    """Return (metadata, infos) of a file of `size` bytes from its header; raises FileFormatError naming the rule."""
    listed, long_metadata = without_long_metadata(path, raw)
    if len(listed) > MAX_LISTED_BYTES:
        raise FileFormatError(
            f"{path.name}: not a safetensors file, or its header is above our limit: "
            f"it has {len(listed)} bytes beside the metadata, the limit is {MAX_LISTED_BYTES}."
        )
    header = _parse_json(path, listed)
    metadata = _check_metadata(path, header.pop("__metadata__", None) or long_metadata)
    if len(header) > MAX_TENSORS:
        raise FileFormatError(f"{path.name}: {len(header)} tensors; the limit is {MAX_TENSORS}.")
    infos = {name: _check_info(path, name, value, 8 + len(raw)) for name, value in each(header.items())}
    _check_layout(path, infos, 8 + len(raw), size)
    return metadata, infos


def _parse_json(path: Path, raw: bytes | bytearray) -> dict[str, Any]:
    def no_constants(text: str) -> Any:
        raise FileFormatError(f"{path.name}: broken header: {text} is not a number.")

    def counts(text: str) -> int:
        if text.startswith("-") or len(text) > 20:  # the format's numbers have at most 64 bits
            raise FileFormatError(f"{path.name}: broken header: {text[:30]} is not a size or an offset.")
        return int(text)

    if not raw.lstrip(b" \t\r\n").startswith(b"{"):
        raise FileFormatError(f"{path.name}: expected a safetensors file; its header is not JSON.")
    if sum(map(raw.count, (b",", b"[", b"{"))) > MAX_SIGNS:
        raise FileFormatError(f"{path.name}: broken header: it has more parts than {MAX_TENSORS} tensors need.")
    try:
        text = raw.decode("utf-8")
        header = json.loads(text, object_pairs_hook=no_duplicates, parse_constant=no_constants, parse_int=counts)
        if "\\u" in text:  # an escape may spell half a character, which no UTF-8 text can hold
            json.dumps(header, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise FileFormatError(f"{path.name}: broken header: a name is not text.") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError, DuplicateKeyError) as error:
        raise FileFormatError(f"{path.name}: broken header: {error}.") from error
    return header


def _check_metadata(path: Path, metadata: Any) -> dict[str, str]:
    if metadata is None:
        return {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FileFormatError(f"{path.name}: broken header: __metadata__ must map text to text.")
    for key in _SETTINGS:
        if len(metadata.get(key, "")) > MAX_SETTINGS_BYTES:
            raise FileFormatError(f"{path.name}: {key} is above our limit of {MAX_SETTINGS_BYTES} bytes.")
    return metadata


def _check_info(path: Path, name: str, value: Any, data_start: int) -> TensorInfo:
    shown = name if len(name) < 80 else name[:77] + "..."
    if not name or len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        raise FileFormatError(f"{path.name}: tensor name {shown!r} is empty or above {MAX_NAME_BYTES} bytes.")
    if not isinstance(value, dict):
        raise FileFormatError(f"{path.name}: broken header at {shown!r}: expected dtype, shape and data_offsets.")
    dtype, shape, offsets = value.get("dtype"), value.get("shape"), value.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise FileFormatError(f"{path.name}: tensor {shown!r} has dtype {dtype!r}, which this version does not know.")
    if not _is_counts(shape) or not _is_counts(offsets) or len(offsets) != 2 or len(shape) > MAX_DIMENSIONS:
        raise FileFormatError(f"{path.name}: broken header at {shown!r}: shape {shape!r}, data_offsets {offsets!r}.")
    nbytes = offsets[1] - offsets[0]
    if element_count(size or 1 for size in shape) * 64 >= 2**64:  # an overflow elsewhere, even with a zero beside it
        raise FileFormatError(f"{path.name}: broken header at {shown!r}: shape {shape} has too many elements.")
    if nbytes != element_count(shape) * DTYPES[dtype][0]:
        raise FileFormatError(
            f"{path.name}: broken header at {shown!r}: {dtype} of shape {shape} does not fill {nbytes} bytes."
        )
    return TensorInfo(name, dtype, tuple(shape), data_start + offsets[0], nbytes)


def _is_counts(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _check_layout(path: Path, infos: Mapping[str, TensorInfo], data_start: int, size: int) -> None:
    expected = data_start
    for info in sorted(infos.values(), key=attrgetter("start", "nbytes")):
        if info.start != expected:
            what = "overlaps another" if info.start < expected else "leaves a hole before it"
            raise FileFormatError(f"{path.name}: broken header: tensor {info.name!r} {what}.")
        expected += info.nbytes
    if size < expected:
        raise FileFormatError(f"{path.name}: truncated: has {size} bytes, needs {expected}; download or copy it again.")
    if size > expected:
        raise FileFormatError(f"{path.name}: {size - expected} bytes follow the last tensor; the file is damaged.")
