"""DoRA: W' = magnitude * V / |V| with V = W + delta of the adapter that it wraps.

Liu et al., arXiv:2402.09353. The norm is of each output's row (the paper, PEFT, LyCORIS by default) or of each
input's column (older LyCORIS, OneTrainer by default), of the slice where a module is a slice of a fused weight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from ..naming.dialects import Family
from .base import Adapter, PlacedRows, join
from .branch import AnyBranch, Branch, row_dots
from .parts import Parts, side_by_side
from .shapes import Shape
from .spelling import Part, suffix_rows

# PEFT's magnitude has a field of its own: ComfyUI does not read it
SUFFIXES: tuple[Part, ...] = (
    *suffix_rows("", "magnitude", ".dora_scale", ".magnitude"),  # LyCORIS, kohya, OneTrainer; ai-toolkit
    *suffix_rows(
        "",
        "peft_magnitude",
        ".lora_magnitude_vector",
        ".lora_magnitude_vector.weight",
        ".lora_magnitude_vector.default.weight",
    ),
)
WRITTEN: Mapping[Family, str] = {"kohya": ".dora_scale", "peft": ".lora_magnitude_vector"}


@dataclass(frozen=True, slots=True)
class DoRA(Adapter):
    """A magnitude around any adapter; it reads the weight, so order matters in a stack."""

    inner: Adapter
    magnitude: torch.Tensor  # (out,), or (in,) if it is the input's
    of_input: bool = False
    from_peft: bool = False  # PEFT's name for it, which ComfyUI does not read

    kind: ClassVar[str] = "DoRA"

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        base = weight.float()
        changed = base + self.inner.delta(base)
        norm = self._norm(changed).clamp_min(torch.finfo(torch.float32).tiny)  # a row of zeros stays one
        return changed * (self._magnitude(base) / norm) - base

    def branch(self, weight: torch.Tensor) -> AnyBranch | None:
        """With g = magnitude / |W + d| the change is (g - 1)·W + g·d; the norm takes no W + d."""
        inner = None if self.of_input else self.inner.branch(weight)
        if not isinstance(inner, Branch) or inner.factors is None or inner.gain is not None:
            return None
        up, down = inner.factors
        rows = weight.float().flatten(1)
        dots, squares = row_dots(inner.factors, rows)
        square = (rows.square().sum(1) + 2 * dots + squares).clamp_min(torch.finfo(torch.float32).tiny)
        growth = self.magnitude.float().flatten() / square.sqrt()
        return Branch((up * growth[:, None], down), growth - 1)

    def cut(self, start: int, length: int, total: int) -> DoRA:
        if self.of_input:
            raise AdapterError("DoRA with a magnitude of the input needs all rows of a fused weight for its norm")
        rows = self.inner.cut(start, length, total)
        return DoRA(rows, self.magnitude[start : start + length], False, self.from_peft)

    def stacked(self, cuts: Sequence[Adapter]) -> DoRA:
        doras = [cut for cut in cuts if isinstance(cut, DoRA)]
        inner = self.inner.stacked([cut.inner for cut in doras])
        return replace(self, inner=inner, magnitude=torch.cat([cut.magnitude for cut in doras]))

    def joined(self, pieces: Sequence[PlacedRows], total: int) -> DoRA | None:
        """The norms are of single rows, so they do not change: one DoRA if the pieces cover all rows, each once."""
        found = [piece.adapter for piece in pieces if isinstance(piece.adapter, DoRA) and not piece.adapter.of_input]
        order = torch.cat([piece.positions() for piece in pieces])
        if len(found) < len(pieces) or sorted(order.tolist()) != list(range(total)):
            return None
        inner = [replace(piece, adapter=dora.inner) for piece, dora in zip(pieces, found, strict=True)]
        magnitude = side_by_side([dora.magnitude for dora in found], 0)
        magnitude = magnitude[order.argsort()]
        return replace(self, inner=join(inner, total), magnitude=magnitude)

    def parts(self) -> Parts:
        return replace(self.inner.parts(), magnitude=self.magnitude, magnitude_of_input=self.of_input)

    def comfyui_change(self, weight: torch.Tensor, strength: float) -> torch.Tensor:
        """ComfyUI takes the norm of W on the output axis, and does not read PEFT's magnitude at all."""
        if self.from_peft:
            return self.inner.comfyui_change(weight, strength)
        changed = weight + self.inner.delta(weight)
        norm = self._norm(changed if self.of_input else weight) + torch.finfo(weight.dtype).eps
        return strength * (changed * (self._magnitude(weight) / norm) - weight)

    def comfyui_fails(self) -> bool:
        return self.inner.comfyui_fails()

    def _norm(self, weight: torch.Tensor) -> torch.Tensor:
        axis = 1 if self.of_input else 0
        others = tuple(other for other in range(weight.dim()) if other != axis)
        return torch.linalg.vector_norm(weight, dim=others, keepdim=True)

    def _magnitude(self, weight: torch.Tensor) -> torch.Tensor:
        shape = [1] * weight.dim()
        shape[1 if self.of_input else 0] = -1
        return self.magnitude.float().reshape(shape)


def without_magnitude(adapter: Adapter) -> tuple[Adapter, DoRA | None]:
    """Return what a magnitude is around, and the DoRA; any other adapter as it is."""
    return (adapter.inner, adapter) if isinstance(adapter, DoRA) else (adapter, None)


def magnitude_is_of_input(shape: Shape, from_peft: bool) -> bool:
    """Tell the axis of a stored magnitude: [out, 1, …] or [out], or [1, in, 1, …]. PEFT's is always the output's."""
    return not from_peft and len(shape) > 1 and shape[0] == 1 and shape[1] > 1


def magnitude_fits(shape: Shape, of_input: bool, weight: Shape) -> bool:
    """Tell whether a stored magnitude is one of a weight of this shape."""
    axis = 1 if of_input else 0
    return axis < len(weight) and math.prod(shape) == weight[axis]
