"""GLoRA: delta = scale · (W·a·a' + b·b'), which reads the weight, so order matters in a stack.

Chavan et al., arXiv:2306.07967, as LyCORIS has it. Two layouts exist, told apart by where the rank is: LyCORIS 4 has
W·a1·a2 + b1·b2, older versions W·a2·a1 + b2·b1. Where all four are squares of one size both fit: LyCORIS 4 it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from .numbers import holds_zeros
from .shapes import Shape, Shapes, fits_shape, required
from .spelling import Part, factor_rows
from .stored import ScaledAdapter

_PARTS = ("a1", "a2", "b1", "b2")


@dataclass(frozen=True, slots=True)
class GLoRA(ScaledAdapter):
    """A low-rank update of the input beside one of the weight."""

    a_up: torch.Tensor  # (in, r)
    a_down: torch.Tensor  # (r, in)
    b_up: torch.Tensor  # (out, r)
    b_down: torch.Tensor  # (r, in) or (r, in, *kernel)
    scale: float

    id: ClassVar[str] = "glora"
    kind: ClassVar[str] = "GLoRA"
    suffixes: ClassVar[tuple[Part, ...]] = factor_rows("glora", "", *_PARTS, ending=".weight")
    folds: ClassVar[tuple[tuple[str, ...], ...]] = (("a1", "b1"), ("a2", "b2"))

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        a_up, a_down, b_up, b_down = (shapes[name] for name in _order(shapes))
        if any(size != 1 for shape in (a_up, a_down, b_up) for size in shape[2:]):
            raise AdapterError(f"expected matrices, found a {list(a_up)}, {list(a_down)} and b {list(b_up)}")
        if a_up[0] != a_down[1] or b_down[1] != a_up[0]:
            raise AdapterError(f"a {list(a_up)}, {list(a_down)} and b {list(b_down)} differ in the input's width")
        return (b_up[0], *b_down[1:])

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape, **settings: Any) -> bool:
        width = shapes[_order(shapes)[0]][0]  # of the input that a changes
        return len(weight) > 1 and width == weight[1] and fits_shape(cls.delta_shape(shapes), weight)

    @classmethod
    def rank_of(cls, shapes: Shapes) -> int | None:
        return shapes[_order(shapes)[1]][0]

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> GLoRA:
        names = _order({name: tuple(parts[name].shape) for name in _PARTS})
        a_up, a_down, b_up, b_down = (parts[name] for name in names)
        return cls(a_up, a_down, b_up, b_down, scale)

    def is_zero(self) -> bool:
        no_input, no_weight = (
            any(map(holds_zeros, pair)) for pair in ((self.a_up, self.a_down), (self.b_up, self.b_down))
        )
        return self.scale == 0 or (no_input and no_weight)

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        a = self.a_up.float().flatten(1), self.a_down.float().flatten(1)
        of_input = torch.einsum("oi...,ir,rj->oj...", weight.float(), *a)
        of_weight = (self.b_up.float().flatten(1) @ self.b_down.float().flatten(1)).reshape(weight.shape)
        return (of_input + of_weight) * self.scale

    def cut(self, start: int, length: int, total: int) -> GLoRA:
        return replace(self, b_up=self.b_up[start : start + length])


def _order(shapes: Shapes) -> tuple[str, str, str, str]:
    """Return the parts' names as (a_up, a_down, b_up, b_down), by where the rank is."""
    a1, a2, b1, b2 = required(shapes, *_PARTS)
    if any(len(shape) < 2 for shape in (a1, a2, b1, b2)):
        raise AdapterError("expected four matrices a1, a2, b1 and b2")
    new = a1[1] == a2[0] and b1[1] == b2[0] == a1[1]
    old = a2[1] == a1[0] and b2[1] == b1[0] == a1[0]
    if not new and not old:
        raise AdapterError(f"the ranks of a1 {list(a1)}, a2 {list(a2)}, b1 {list(b1)} and b2 {list(b2)} differ")
    if old and (not new or a1[0] < a1[1]):
        return "a2", "a1", "b2", "b1"
    return _PARTS
