"""What every container of tensors offers, whatever its format: a mapping of names to infos that reads one at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ..errors import FileFormatError
from ..lazytorch import torch
from .tensorheader import TensorInfo, element_count

Self = TypeVar("Self", bound="Tensors")


class Tensors(Mapping[str, TensorInfo]):
    """Named tensors of one file or of several, open for reading.

    `tensor` returns a tensor that owns its memory. Where the format stores codes, infos tell the shape and `tensor`
    gives the values that the codes stand for, in fp32.
    """

    path: Path
    metadata: dict[str, str]
    warnings: Sequence[str] = ()  # what was ignored while opening
    _infos: Mapping[str, TensorInfo]

    def __getitem__(self, name: str) -> TensorInfo:
        return self._infos[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Release the files."""

    @abstractmethod
    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor's values."""

    def scalar(self, name: str) -> float:
        """Return a one-element tensor's value."""
        self._check_scalar(self[name])
        return float(self.tensor(name))

    def _check_scalar(self, info: TensorInfo) -> None:
        if element_count(info.shape) != 1 or not (info.is_float or info.dtype[0] in "IU"):
            found = f"{info.dtype} of shape {info.shape}"
            raise FileFormatError(f"{self.path.name}: tensor {info.name!r} must hold one number; found {found}.")

    @abstractmethod
    def check_unchanged(self) -> None:
        """Raise FileChangedError if a file was replaced, truncated or written to since it was opened."""

    @property
    @abstractmethod
    def size(self) -> int:
        """The bytes of all files."""

    @property
    def paths(self) -> Sequence[Path]:
        """The files."""
        return (self.path,)

    @property
    def identity(self) -> object:
        """What two have in common that are opened from the same."""
        return self.path.resolve()

    def described(self) -> dict[str, Any]:
        """Return it as reports name it: never with its folder."""
        return {"name": self.path.name, "bytes": self.size}

    def coded_as(self, name: str) -> str | None:
        """Return the name of the quantised format that a tensor is stored in; None if it holds plain numbers."""
        return None


class TensorsView(Tensors):
    """An open container seen in another way: its tensors differ, its files are the same; closing it closes them."""

    def __init__(self, raw: Tensors) -> None:
        self.raw = raw
        self.path, self.metadata, self.warnings = raw.path, raw.metadata, raw.warnings

    def close(self) -> None:
        self.raw.close()

    def check_unchanged(self) -> None:
        self.raw.check_unchanged()

    @property
    def size(self) -> int:
        return self.raw.size

    @property
    def paths(self) -> Sequence[Path]:
        return self.raw.paths

    @property
    def identity(self) -> object:
        return self.raw.identity


def memory_for(what: str, nbytes: int) -> torch.Tensor:
    """Return bytes to read into; raises FileFormatError if the machine does not have so many."""
    try:
        return torch.empty(nbytes, dtype=torch.uint8)
    except RuntimeError as error:  # the allocator's only one
        raise FileFormatError(f"{what} needs {nbytes} bytes of memory, which are not there.") from error
