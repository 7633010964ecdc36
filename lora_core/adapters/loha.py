"""LoHa: delta = scale · (w1_a·w1_b) * (w2_a·w2_b), each product with an optional Tucker core.

FedPara: Hyeon-Woo et al., arXiv:2108.06098; LyCORIS, arXiv:2309.14859. OneTrainer keeps a convolution's factors in
four dimensions, PEFT and LyCORIS in two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..algebra.factored import Factors
from ..algebra.svd import Svd, svd_of_dense
from ..errors import AdapterError
from ..lazytorch import torch
from .base import Adapter
from .lowrank import change_square_of, product, sides
from .parts import Parts
from .shapes import Shape, Shapes, required
from .spelling import Part, factor_rows
from .stored import ScaledAdapter

_FACTORS = ("w1_a", "w1_b", "w2_a", "w2_b")
_CORES = ("t1", "t2")
_NARROW = 256  # the rank up to which factors are cheap to form


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

    id: ClassVar[str] = "loha"
    kind: ClassVar[str] = "LoHa"
    additive: ClassVar[bool] = True
    suffixes: ClassVar[tuple[Part, ...]] = factor_rows("loha", "hada_", *_FACTORS, *_CORES)
    folds: ClassVar[tuple[tuple[str, ...], ...]] = (("w1_a",), ("w1_b",), ("w2_a",), ("w2_b",))
    has_factors: ClassVar[bool] = True

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
    def room(cls, shapes: Shapes, weight: Shape, **settings: Any) -> int:
        """Factors of the product of both ranks, where that is not above the change's own."""
        sides = weight[0], math.prod(weight[1:])
        rank = shapes["w1_b"][0] * shapes["w2_b"][0]
        return max(math.prod(weight), sum(sides) * min(rank, *sides))

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> LoHa:
        w1_a, w1_b, w2_a, w2_b = (parts[name] for name in _FACTORS)
        return cls(w1_a, w1_b, w2_a, w2_b, parts.get("t1"), parts.get("t2"), scale)

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        first = product(self.w1_a, self.w1_b, self.t1)
        second = product(self.w2_a, self.w2_b, self.t2)
        return (first * second * self.scale).reshape(weight.shape)

    def low_rank(self) -> Factors | None:
        """(A1·B1) * (A2·B2) has the product of both ranks, unless that is more than any matrix of its shape needs."""
        first = sides(self.w1_a, self.w1_b, self.t1)
        second = sides(self.w2_a, self.w2_b, self.t2)
        if first[0].shape[1] * second[0].shape[1] > min(first[0].shape[0], first[1].shape[1]):
            return None
        up = (first[0][:, :, None] * second[0][:, None, :]).flatten(1) * self.scale
        return up, (first[1][:, None, :] * second[1][None, :, :]).flatten(0, 1)

    def svd(self, shape: Shape, rank: int) -> Svd:
        """It is made dense only if its factors would be larger than the change itself."""
        found = ScaledAdapter.svd(self, shape, rank)
        if found is not None:
            return found
        dense = self.delta(torch.empty(shape)).flatten(1)
        return svd_of_dense(dense, min(dense.shape))

    def change_square(self) -> float | None:
        is_narrow = self.w1_b.shape[0] * self.w2_b.shape[0] <= _NARROW
        return change_square_of(self.low_rank() if is_narrow else None)

    def parts(self) -> Parts:
        present = {name: part for name in (*_FACTORS, *_CORES) if (part := getattr(self, name)) is not None}
        return Parts(self.id, present, self.scale, self.w1_b.shape[0])

    def cut(self, start: int, length: int, total: int) -> LoHa:
        rows = [tensor.narrow(self._row_axis, start, length) for tensor in (self.w1_a, self.w2_a)]
        return replace(self, w1_a=rows[0], w2_a=rows[1])

    def stacked(self, cuts: Sequence[Adapter]) -> LoHa:
        lohas = [cut for cut in cuts if isinstance(cut, LoHa)]
        first, second = ([loha.w1_a for loha in lohas], [loha.w2_a for loha in lohas])
        return replace(self, w1_a=torch.cat(first, self._row_axis), w2_a=torch.cat(second, self._row_axis))

    @property
    def _row_axis(self) -> int:
        """The axis of w1_a and w2_a that is out: with a core it is the second."""
        return 0 if self.t1 is None else 1

    def comfyui_fails(self) -> bool:
        """ComfyUI multiplies matrices, no convolution's factors, and takes cores of two-dimensional kernels alone."""
        return self.w1_a.dim() > 2 if self.t1 is None else self.t1.dim() != 4


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
