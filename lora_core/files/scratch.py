"""Tensors kept on disk until they are wanted, so that memory does not grow with what an operation makes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

from ..lazytorch import torch
from .dtypes import dtype_name
from .layout import PlannedTensor
from .openfile import read_exactly
from .outputs import PARTIAL, as_output_error, write_all
from .tensorfile import byte_view


class Scratch(Mapping[str, "torch.Tensor"]):
    """A mapping of names to tensors in a temporary file beside the output `beside`, gone when closed or left.

    Use as a context manager. A name that is put again is replaced; its old bytes stay in the file.
    """

    def __init__(self, beside: Path) -> None:
        self._beside = beside
        self._places: dict[str, tuple[int, torch.dtype, PlannedTensor]] = {}
        self._end = 0
        with as_output_error(beside):
            # without a name where the system can, so that a killed process leaves nothing
            prefix = f".{beside.name[:60]}.{os.getpid()}-"
            self._file = tempfile.TemporaryFile(dir=beside.parent, prefix=prefix, suffix=PARTIAL)  # noqa: SIM115

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def put(self, name: str, tensor: torch.Tensor) -> None:
        planned = PlannedTensor(name, dtype_name(tensor.dtype), tuple(tensor.shape))
        with as_output_error(self._beside):
            if tensor.numel():
                write_all(self._file.fileno(), byte_view(tensor), self._end)
        self._places[name] = self._end, tensor.dtype, planned
        self._end += planned.nbytes

    def drop(self, name: str) -> None:
        """Forget a tensor."""
        del self._places[name]

    def planned(self) -> list[PlannedTensor]:
        """Return names, dtypes and shapes, without reading."""
        return [planned for _, _, planned in self._places.values()]

    def __getitem__(self, name: str) -> torch.Tensor:
        start, dtype, planned = self._places[name]
        if not planned.nbytes:
            return torch.empty(planned.shape, dtype=dtype)
        buffer = bytearray(planned.nbytes)
        read_exactly(self._beside, self._file.fileno(), memoryview(buffer), start)
        return torch.frombuffer(buffer, dtype=dtype).reshape(planned.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class Sizes(Scratch):
    """Takes tensors as a Scratch does, keeps names, dtypes and shapes alone, and gives tensors of the meta device."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[int, torch.dtype, PlannedTensor]] = {}

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def put(self, name: str, tensor: torch.Tensor) -> None:
        self._places[name] = 0, tensor.dtype, PlannedTensor(name, dtype_name(tensor.dtype), tuple(tensor.shape))

    def __getitem__(self, name: str) -> torch.Tensor:
        _, dtype, planned = self._places[name]
        return torch.empty(planned.shape, dtype=dtype, device="meta")
