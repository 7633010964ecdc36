"""LoHa: delta = scale · (w1_a·w1_b) * (w2_a·w2_b), each product with an optional Tucker core.

FedPara: Hyeon-Woo et al., arXiv:2108.06098; LyCORIS, arXiv:2309.14859. OneTrainer keeps a convolution's factors in
four dimensions, PEFT and LyCORIS in two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from .base import ScaledAdapter, Shape, Shapes, required

_FACTORS = ("w1_a", "w1_b", "w2_a", "w2_b")


@dataclass(frozen=True, slots=True)
class LoHa(ScaledAdapter):
    """The elementwise product of two low-rank updates."""

    w1_a: torch.Tensor  # (out, r) or (out, r, 1, 1); with a core (r, out)
    w1_b: torch.Tensor  # (r, in·kernel) or (r, in, *kernel); with a core (r, in)
    w2_a: torch.Tensor
    w2_b: torch.Tensor
    t1: torch.Tensor | None  # (r, r, *kernel), the cores of Tucker decompositions
    t2: torch.Tensor | None
    scale: float

    kind: ClassVar[str] = "LoHa"
    additive: ClassVar[bool] = True

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        w1_a, w1_b, w2_a, w2_b = required(shapes, *_FACTORS)
        t1, t2 = shapes.get("t1"), shapes.get("t2")
        if (t1 is None) != (t2 is None):
            raise AdapterError("has one Tucker core, t1 or t2, without the other")
        first, second = product_shape(w1_a, w1_b, t1), product_shape(w2_a, w2_b, t2)
        if first != second:
            raise AdapterError(f"the two products differ in shape: {list(first)} and {list(second)}")
        return first

    @classmethod
    def rank_of(cls, shapes: Shapes) -> int | None:
        return shapes["w1_b"][0]

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> LoHa:
        w1_a, w1_b, w2_a, w2_b = (parts[name] for name in _FACTORS)
        return cls(w1_a, w1_b, w2_a, w2_b, parts.get("t1"), parts.get("t2"), scale)

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        first = product(self.w1_a, self.w1_b, self.t1)
        second = product(self.w2_a, self.w2_b, self.t2)
        return (first * second * self.scale).reshape(weight.shape)

    def cut(self, start: int, length: int, total: int) -> LoHa:
        axis = 0 if self.t1 is None else 1  # a core has out as the second axis of w1_a and w2_a
        rows = [tensor.narrow(axis, start, length) for tensor in (self.w1_a, self.w2_a)]
        return replace(self, w1_a=rows[0], w2_a=rows[1])

    def comfyui_fails(self) -> bool:
        """ComfyUI multiplies matrices, no convolution's factors, and takes cores of two-dimensional kernels alone."""
        return self.w1_a.dim() > 2 if self.t1 is None else self.t1.dim() != 4


def product(a: torch.Tensor, b: torch.Tensor, core: torch.Tensor | None) -> torch.Tensor:
    """Return a·b as (out, in·kernel), or with a Tucker core (out, in, *kernel)."""
    if core is None:
        return a.float().flatten(1) @ b.float().flatten(1)
    return torch.einsum("ij...,jq,ip->pq...", core.float(), b.float(), a.float())


def product_shape(a: Shape, b: Shape, core: Shape | None) -> Shape:
    """Return the shape of `product`; raises AdapterError if the ranks differ."""
    if len(a) < 2 or len(b) < 2 or any(size != 1 for size in a[2:]):
        raise AdapterError(f"expected factors [out, r] and [r, in, ...], found {list(a)} and {list(b)}")
    if core is None:
        if a[1] != b[0]:
            raise AdapterError(f"the ranks of {list(a)} and {list(b)} differ")
        return (a[0], *b[1:])
    if len(core) < 3 or len(a) > 2 or len(b) > 2 or core[:2] != (a[0], b[0]):
        raise AdapterError(f"the core {list(core)} does not fit {list(a)} and {list(b)}")
    return (a[1], b[1], *core[2:])
