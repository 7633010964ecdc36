"""A LoRA that is in memory and in no file, as training hands it over: tensors behind the protocol of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import OptionError
from ..lazytorch import torch
from .dtypes import DTYPES
from .tensorheader import TensorInfo
from .tensors import Tensors

IN_MEMORY = "LoRA in memory"  # what reports call it


class MemoryTensors(Tensors):
    """Tensors of any device. What `tensor` returns is a copy on the CPU, so nothing changes the ones that were given.

    Raises OptionError for anything but a mapping of names to tensors.
    """

    def __init__(self, given: Mapping[str, torch.Tensor]) -> None:
        self.path, self.metadata = Path(IN_MEMORY), {}
        self._given = given
        self._tensors = {name: _checked(name, tensor) for name, tensor in given.items()}
        self._infos = {name: _info(name, tensor) for name, tensor in self._tensors.items()}

    def close(self) -> None:
        """Nothing is open."""

    def tensor(self, name: str) -> torch.Tensor:
        return self._tensors[name].detach().to("cpu", copy=True).contiguous()

    def check_unchanged(self) -> None:
        """What is handed over is a value, which nobody changes."""

    @property
    def size(self) -> int:
        return sum(info.nbytes for info in self._infos.values())

    @property
    def paths(self) -> Sequence[Path]:
        return ()

    @property
    def identity(self) -> object:
        return id(self._given)


def check_in_memory(given: Any) -> Mapping[str, torch.Tensor]:
    """Return `given`, a LORA_MODEL of any pack, or raise OptionError if it is not one."""
    if not isinstance(given, Mapping):
        raise OptionError(f"lora: expected a LORA_MODEL, which is names and tensors; found {type(given).__name__}.")
    for name, tensor in given.items():
        _checked(name, tensor)
    return given


def _checked(name: Any, tensor: Any) -> torch.Tensor:
    if isinstance(name, str) and isinstance(tensor, torch.Tensor):
        return tensor
    raise OptionError(
        f"{IN_MEMORY}: expected names and tensors, found {name!r:.80} with {type(tensor).__name__}; "
        "wire the LORA_MODEL of a training node."
    )


def _info(name: str, tensor: torch.Tensor) -> TensorInfo:
    found = [dtype for dtype, (_, attribute) in DTYPES.items() if getattr(torch, attribute, None) is tensor.dtype]
    if not found:
        raise OptionError(f"{IN_MEMORY}: tensor {name!r:.80} has dtype {tensor.dtype}, which is not known here.")
    return TensorInfo(name, found[0], tuple(tensor.shape), 0, tensor.nbytes)
