"""Parts of a fused module: an adapter trained on e.g. `attn.qkv`, cut to the rows that a checkpoint stores apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..algebra.factored import Factors
from ..errors import AdapterError
from ..lazytorch import torch
from .base import Adapter


def rows_of(adapter: Adapter, start: int, length: int, total: int) -> Adapter:
    """Return the adapter of a fused module with `total` output rows, cut to the rows [start, start + length).

    Raises AdapterError for kinds in which a row's change depends on other rows, e.g. an OFT of the output axis.
    """
    if start < 0 or length < 1 or start + length > total:
        raise AdapterError(f"rows {start} to {start + length} are not all within the {total} rows of the fused weight")
    return adapter if length == total else adapter.cut(start, length, total)


@dataclass(frozen=True, slots=True)
class RowCut(Adapter):
    """Rows of an additive adapter whose parts can't be cut: the whole delta is made, and the rows are taken."""

    inner: Adapter
    start: int
    length: int
    total: int

    kind: ClassVar[str] = "rows"
    additive: ClassVar[bool] = True

    def is_zero(self) -> bool:
        return self.inner.is_zero()

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        return self.inner.delta(self._whole(weight)).narrow(0, self.start, self.length)

    def low_rank(self) -> Factors | None:
        whole = self.inner.low_rank()
        return whole and (whole[0][self.start : self.start + self.length], whole[1])

    def cut(self, start: int, length: int, total: int) -> RowCut:
        return RowCut(self.inner, self.start + start, length, self.total)

    def comfyui_change(self, weight: torch.Tensor, strength: float) -> torch.Tensor:
        return self.inner.comfyui_change(self._whole(weight), strength).narrow(0, self.start, self.length)

    def comfyui_fails(self) -> bool:
        return self.inner.comfyui_fails()

    def _whole(self, weight: torch.Tensor) -> torch.Tensor:
        """Return an empty weight of the fused shape: additive kinds look at the shape alone."""
        return weight.new_empty((self.total, *weight.shape[1:]))
