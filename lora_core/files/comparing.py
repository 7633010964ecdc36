"""A written file compared with what is made again: it takes tensors as a writer does, and looks instead of writing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..lazytorch import torch
from .dtypes import DTYPES, torch_dtype
from .layout import PlannedTensor
from .tensorfile import TensorFile, byte_view

PIECE = 4 * 2**20  # bytes that are compared at a time


@dataclass(slots=True)
class Difference:
    """How one tensor of a file is not the one that was made again; `why` says it where the numbers don't compare."""

    key: str
    why: str = ""
    values: int = 0  # that differ
    of: int = 0
    largest: float = 0.0


class Comparer:
    """Compares the tensors of `written` with those of the plan, bit by bit, with bounded memory.

    Several threads may use it at once, each for its own tensors.
    """

    def __init__(self, written: TensorFile, plan: Sequence[PlannedTensor]) -> None:
        self._written = written
        self.differences: dict[str, Difference] = {}
        planned = {tensor.name: tensor for tensor in plan}
        for name, tensor in planned.items():
            why = _other_form(written, tensor)
            if why:
                self.differences[name] = Difference(name, why)
        for name in written:
            if name not in planned:
                self.differences[name] = Difference(name, "is in the file and should not be")
        self._comparable = {name for name in planned if name not in self.differences}

    def put(self, name: str, tensor: torch.Tensor) -> None:
        if tensor.numel():
            self.put_bytes(name, byte_view(tensor))

    def put_bytes(self, name: str, data: memoryview, start: int = 0) -> None:
        if name not in self._comparable:
            return
        for offset in range(0, len(data), PIECE):
            expected = data[offset : offset + PIECE]
            found = memoryview(bytearray(len(expected)))
            self._written.read_into(name, found, start + offset)
            self._compare(name, expected, found)

    def copy(self, names: Sequence[str], source: TensorFile, on_bytes: Callable[[int], None] | None = None) -> None:
        for name in names:
            for start in range(0, source[name].nbytes, PIECE):
                expected = memoryview(bytearray(min(PIECE, source[name].nbytes - start)))
                source.read_into(name, expected, start)
                self.put_bytes(name, expected, start)
                if on_bytes:
                    on_bytes(len(expected))

    def _compare(self, name: str, expected: memoryview, found: memoryview) -> None:
        first, second = _bytes(expected), _bytes(found)
        if torch.equal(first, second):
            return
        info = self._written[name]
        width, _ = DTYPES[info.dtype]
        told = self.differences.setdefault(name, Difference(name, of=info.nbytes // width))
        told.values += int((first != second).view(-1, width).any(dim=1).sum())
        if info.is_float:
            dtype = torch_dtype(info.dtype)
            distance = (first.view(dtype).double() - second.view(dtype).double()).abs()
            told.largest = max(told.largest, float(distance.nan_to_num(nan=float("inf")).max()))


def _other_form(written: TensorFile, tensor: PlannedTensor) -> str:
    info = written.get(tensor.name)
    if info is None:
        return "is missing"
    if (info.dtype, info.shape) != (tensor.dtype, tensor.shape):
        return f"is {info.dtype} {list(info.shape)}, and should be {tensor.dtype} {list(tensor.shape)}"
    return ""


def _bytes(data: memoryview) -> torch.Tensor:
    buffer: Any = data
    return torch.frombuffer(buffer, dtype=torch.uint8)
