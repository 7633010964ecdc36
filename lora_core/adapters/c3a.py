"""C3A: delta is a matrix of circulant blocks, each told by one row.

Chen et al., arXiv:2407.19342, as PEFT has it, which divides by the number of inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..lazytorch import torch
from .numbers import holds_zeros
from .peft import PeftAdapter, with_dimensions
from .shapes import Shape, Shapes
from .spelling import Part, suffix_rows


@dataclass(frozen=True, slots=True)
class C3A(PeftAdapter):
    """Entry (i, j) of a block is kernel[(j - i) mod b] / in."""

    kernel: torch.Tensor  # (out / b, in / b, b)

    id: ClassVar[str] = "c3a"
    kind: ClassVar[str] = "C3A"
    additive: ClassVar[bool] = True
    is_portable: ClassVar[bool] = True
    suffixes: ClassVar[tuple[Part, ...]] = suffix_rows("c3a", "kernel", ".c3a_kernel")

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        ((rows, columns, size),) = with_dimensions(shapes, 3, "kernel")
        return (rows * size, columns * size)

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> C3A:
        return cls(parts["kernel"])

    def is_zero(self) -> bool:
        return holds_zeros(self.kernel)

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        _, columns, size = self.kernel.shape
        at = torch.arange(size, device=self.kernel.device)
        blocks = self.kernel.float()[:, :, (at - at[:, None]) % size]  # (out / b, in / b, b, b)
        return blocks.transpose(1, 2).reshape(weight.shape) / (columns * size)
