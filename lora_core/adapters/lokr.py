"""LoKr: delta = scale · w1 kron w2, where each of the two may be a product of low rank, and w2 may have a Tucker core.

LyCORIS, arXiv:2309.14859. The scale is applied once; its rank is w2's, or w1's if only that is a product. With both
whole there is no rank: LyCORIS and OneTrainer then store an alpha that has no meaning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..algebra.factored import Factors
from ..algebra.svd import Svd, svd_of_product
from ..errors import AdapterError
from ..lazytorch import torch
from ..naming.dialects import Loader
from .base import Adapter
from .branch import AnyBranch, KroneckerBranch
from .loha import product_shape
from .lowrank import narrowed, product, product_square, sides, with_identity
from .parts import Parts
from .rows import RowCut
from .shapes import Shape, Shapes, required
from .spelling import Part, factor_rows
from .stored import ScaledAdapter

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

    id: ClassVar[str] = "lokr"
    kind: ClassVar[str] = "LoKr"
    additive: ClassVar[bool] = True
    suffixes: ClassVar[tuple[Part, ...]] = factor_rows("lokr", "lokr_", *_PARTS)
    folds: ClassVar[tuple[tuple[str, ...], ...]] = (("w1", "w1_a"), ("w2", "w2_a"))
    has_factors: ClassVar[bool] = True
    read_by: ClassVar[frozenset[Loader]] = frozenset(("comfyui", "diffusers"))

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
    def room(cls, shapes: Shapes, weight: Shape, **settings: Any) -> int:
        """Factors of the product of both sides' ranks, or the change."""
        rank = 1
        for name, core in (("w1", None), ("w2", shapes.get("t2"))):
            side = _side(shapes, name, core)
            least = min(side[0], math.prod(side[1:]))
            rank *= least if name in shapes else min(shapes[name + "_a"][0 if core else 1], 2 * least)
        return max(math.prod(weight), rank * (weight[0] + math.prod(weight[1:])))

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> LoKr:
        w1, w1_a, w1_b, w2, w2_a, w2_b, t2 = (parts.get(name) for name in _PARTS)
        return cls(w1, w1_a, w1_b, w2, w2_a, w2_b, t2, scale)

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        w1 = _whole(self.w1, self.w1_a, self.w1_b, None)
        w2 = _whole(self.w2, self.w2_a, self.w2_b, self.t2)
        w1 = w1.reshape(*w1.shape, *[1] * (w2.dim() - 2)) * self.scale
        return _kron(w1, w2).reshape(weight.shape)

    def branch(self, weight: torch.Tensor) -> AnyBranch:
        w2 = _whole(self.w2, self.w2_a, self.w2_b, self.t2)
        w2 = w2.reshape(w2.shape[0], -1, *weight.shape[2:])  # a product has the kernel flat
        return KroneckerBranch(_whole(self.w1, self.w1_a, self.w1_b, None) * self.scale, w2)

    def low_rank(self) -> Factors:
        """W1 kron W2 has the product of both sides' ranks."""
        (a1, b1), (a2, b2) = self._both_sides()
        # out is out1·out2 and in·kernel is in1·(in2·kernel): the flattened change is a Kronecker product too
        return _kron(a1, a2) * self.scale, _kron(b1, b2)

    def svd(self, shape: Shape, rank: int) -> Svd:
        """The singular values of W1 kron W2 are the products of both sides', and its vectors the Kronecker products."""
        first, second = (svd_of_product(*pair) for pair in self._both_sides())
        products = torch.outer(first.values, second.values).flatten() * abs(self.scale)
        values, order = products.sort(descending=True)
        i, j = order[:rank] // max(1, len(second.values)), order[:rank] % max(1, len(second.values))
        left = (first.left[:, None, i] * second.left[None, :, j]).flatten(0, 1)
        right = (first.right[i][:, :, None] * second.right[j][:, None, :]).flatten(1)
        values = values[values > 0]  # none if the scale is zero
        return Svd(left * (-1.0 if self.scale < 0 else 1.0), values, right, float(values.square().sum()))

    def change_square(self) -> float:
        """The norm of a Kronecker product is the product of the norms."""
        first, second = self._both_sides()
        return product_square(*first) * product_square(*second) * self.scale**2

    def _both_sides(self) -> tuple[Factors, Factors]:
        """Return factors (out, r), (r, in·kernel) of both sides in fp32; the scale is in neither."""
        return (
            _factored(self.w1, self.w1_a, self.w1_b, None),
            _factored(self.w2, self.w2_a, self.w2_b, self.t2),
        )

    @classmethod
    def unread(cls, loader: Loader, parts: Parts, file: Sequence[Parts]) -> str | None:
        """Diffusers reads files of nothing else, and no cores."""
        is_alone = "t2" not in parts.fields and all(other.kind == cls.id for other in file)
        return None if loader == "comfyui" or (loader == "diffusers" and is_alone) else ""

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


def _factored(
    whole: torch.Tensor | None, a: torch.Tensor | None, b: torch.Tensor | None, core: torch.Tensor | None
) -> Factors:
    """Return factors of one side of a Kronecker product, of the lowest rank that its parts tell."""
    if whole is None:
        assert a is not None and b is not None  # delta_shape has seen to it
        return narrowed(sides(a, b, core))
    return with_identity(whole.float().flatten(1))


def _kron(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the Kronecker product; torch's own can't take sizes of 1 with strides of their own, as einsum leaves."""
    return torch.kron(*(tensor.contiguous().view(-1).view(tensor.shape) for tensor in (first, second)))


def _side(shapes: Shapes, name: str, core: Shape | None) -> Shape:
    if name in shapes:
        return required(shapes, name)[0]
    a, b = required(shapes, name + "_a", name + "_b")
    return product_shape(a, b, core)
