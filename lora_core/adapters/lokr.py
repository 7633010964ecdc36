"""LoKr: delta = scale · w1 kron w2, where each of the two may be a product of low rank, and w2 may have a Tucker core.

LyCORIS, arXiv:2309.14859. The scale is applied once; its rank is w2's, or w1's if only that is a product. With both
whole there is no rank: LyCORIS and OneTrainer then store an alpha that has no meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from .base import Adapter, ScaledAdapter, Shape, Shapes, required
from .loha import product, product_shape
from .rows import RowCut

_PARTS = ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")


@dataclass(frozen=True, slots=True)
class LoKr(ScaledAdapter):
    """A Kronecker product."""

    w1: torch.Tensor | None  # (out1, in1), or None where it is w1_a · w1_b
    w1_a: torch.Tensor | None  # (out1, r)
    w1_b: torch.Tensor | None  # (r, in1)
    w2: torch.Tensor | None  # (out2, in2, *kernel), or None where it is w2_a · w2_b
    w2_a: torch.Tensor | None  # (out2, r); with a core (r, out2)
    w2_b: torch.Tensor | None  # (r, in2·kernel); with a core (r, in2)
    t2: torch.Tensor | None  # (r, r, *kernel)
    scale: float

    kind: ClassVar[str] = "LoKr"
    additive: ClassVar[bool] = True

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        w1, w2 = _side(shapes, "w1", None), _side(shapes, "w2", shapes.get("t2"))
        if len(w1) != 2 or len(w2) < 2:
            raise AdapterError(f"expected w1 [out, in] and w2 [out, in, ...], found {list(w1)} and {list(w2)}")
        return (w1[0] * w2[0], w1[1] * w2[1], *w2[2:])

    @classmethod
    def rank_of(cls, shapes: Shapes) -> int | None:
        for name in ("w2", "w1"):
            if name not in shapes:
                return shapes[name + "_b"][0]
        return None

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> LoKr:
        w1, w1_a, w1_b, w2, w2_a, w2_b, t2 = (parts.get(name) for name in _PARTS)
        return cls(w1, w1_a, w1_b, w2, w2_a, w2_b, t2, scale)

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        w1 = _whole(self.w1, self.w1_a, self.w1_b, None)
        w2 = _whole(self.w2, self.w2_a, self.w2_b, self.t2)
        w1 = w1.reshape(*w1.shape, *[1] * (w2.dim() - 2)) * self.scale
        return torch.kron(w1.contiguous(), w2.contiguous()).reshape(weight.shape)

    def cut(self, start: int, length: int, total: int) -> Adapter:
        return RowCut(self, start, length, total)  # any rows of a Kronecker product are not one

    def comfyui_fails(self) -> bool:
        """ComfyUI's torch.kron can't take a view of what einsum made of the core."""
        return self.t2 is not None


def _whole(
    whole: torch.Tensor | None, a: torch.Tensor | None, b: torch.Tensor | None, core: torch.Tensor | None
) -> torch.Tensor:
    if whole is not None:
        return whole.float()
    assert a is not None and b is not None  # delta_shape has seen to it
    return product(a, b, core)


def _side(shapes: Shapes, name: str, core: Shape | None) -> Shape:
    if name in shapes:
        return required(shapes, name)[0]
    a, b = required(shapes, name + "_a", name + "_b")
    return product_shape(a, b, core)
