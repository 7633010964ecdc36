"""A container seen under other names: tensors renamed, turned or with their rows in another order, and numbers beside
them, so that a file of one program reads like that of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..lazytorch import torch
from .tensorheader import TensorInfo
from .tensors import Tensors, TensorsView


@dataclass(frozen=True, slots=True)
class Source:
    """Where a tensor comes from: one of the container, or a number that the container tells elsewhere."""

    name: str = ""
    turned: bool = False  # a matrix on its side
    heads: int = 0  # the rows of each of so many heads lie as pairs, and become halves (llama.cpp's order of q and k)
    number: float = 0.0  # without a name


class Renamed(TensorsView):
    """An open container under other names."""

    def __init__(self, raw: Tensors, sources: Mapping[str, Source]) -> None:
        super().__init__(raw)
        self._sources = sources
        self._infos = {name: _info(raw, name, source) for name, source in sources.items()}

    def tensor(self, name: str) -> torch.Tensor:
        source = self._sources[name]
        if not source.name:
            return torch.tensor(source.number)
        tensor = self.raw.tensor(source.name)
        tensor = tensor.t() if source.turned else tensor
        if source.heads:
            tensor = tensor.unflatten(0, (source.heads, -1, 2)).transpose(1, 2).flatten(0, 2)
        return tensor.contiguous()

    def scalar(self, name: str) -> float:
        source = self._sources[name]
        return self.raw.scalar(source.name) if source.name else source.number


def _info(raw: Tensors, name: str, source: Source) -> TensorInfo:
    if not source.name:
        return TensorInfo(name, "F32", (), 0, 4)
    info = raw[source.name]
    return replace(info, name=name, shape=info.shape[::-1] if source.turned else info.shape)
