"""BOFT: rotations in blocks, in stages with a butterfly's permutation between them.

Liu et al., arXiv:2311.06243. LyCORIS rotates the output axis, PEFT the input; each permutes in its own order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from ..naming.dialects import Loader
from .oft import OutputRotation, blocks_rows, rescale_fits, rescaled
from .rotation import cayley, limited, skew
from .shapes import Shape, Shapes, required
from .spelling import Part, suffix_rows
from .stored import StoredAdapter


@dataclass(frozen=True, slots=True)
class BOFT(OutputRotation):
    """LyCORIS' BOFT: W' = rescale * (stages of rotations) · W."""

    blocks: torch.Tensor  # (stages, n, b, b), n · b = out
    rescale: torch.Tensor | None  # (out, 1, …)
    constraint: float | None  # of |Q| over all stages, times out; none if 0 or not stored

    id: ClassVar[str] = "boft"
    kind: ClassVar[str] = "BOFT"

    @classmethod
    def is_meant(cls, module: str, shapes: Shapes) -> bool:
        return len(shapes.get("blocks", ())) == 4

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        (blocks,) = required(shapes, "blocks")
        rows = blocks_rows(blocks, staged=True)
        if blocks[-1] % 2 or rows % (2 ** min(blocks[0] - 1, 64) * blocks[-1]):
            raise AdapterError(f"expected blocks [stages, n, b, b] of a butterfly, found {list(blocks)}")
        return (rows,)

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape, **settings: Any) -> bool:
        return len(weight) > 1 and cls.delta_shape(shapes)[0] == weight[0] and rescale_fits(shapes, weight[0])

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> BOFT:
        return cls(parts["blocks"], parts.get("rescale"), settings.get("constraint"))

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        stages = self._rotations((self.constraint or 0.0) * weight.shape[0])
        return rescaled(self._turned(stages, weight.float()), self.rescale) - weight.float()

    def comfyui_change(self, weight: torch.Tensor, strength: float) -> torch.Tensor:
        """ComfyUI takes the constraint without the width, and applies strength in every stage and at the end."""
        stages = self._rotations(self.constraint or 0.0)
        if strength != 1:
            stages = stages * strength + (1 - strength) * torch.eye(stages.shape[-1], device=stages.device)
        turned = rescaled(self._turned(stages, weight.float()), self.rescale)
        return strength * (turned - weight.float())

    def comfyui_fails(self) -> bool:
        return self.constraint is None

    def _rotations(self, most: float) -> torch.Tensor:
        q = skew(self.blocks)
        return cayley(limited(q, most) if most > 0 else q)

    def _turned(self, stages: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        rows, size = weight.shape[0], stages.shape[-1]
        result = weight.reshape(rows, -1)
        for index, rotations in enumerate(stages):
            step = 2**index * size // 2  # rows that lie `step` apart are paired in this stage
            order = torch.arange(rows, device=weight.device).reshape(-1, 2, step).transpose(1, 2).flatten()
            turned = (rotations @ result[order].reshape(-1, size, result.shape[1])).reshape(rows, -1)
            result = torch.empty_like(turned).index_copy_(0, order, turned)
        return result.reshape(weight.shape)


@dataclass(frozen=True, slots=True)
class InputBOFT(StoredAdapter):
    """PEFT's BOFT, of the input, without a butterfly: PEFT has one stage unless its CUDA extension was compiled."""

    blocks: torch.Tensor  # (1, n, b, b), n · b = in · kernel
    rescale: torch.Tensor  # (out, 1), of a convolution (1, out)

    id: ClassVar[str] = "input_boft"
    kind: ClassVar[str] = "BOFT"
    suffixes: ClassVar[tuple[Part, ...]] = (
        *suffix_rows("input_boft", "blocks", ".boft_R", ".boft_R.default"),
        *suffix_rows("input_boft", "rescale", ".boft_s", ".boft_s.default"),
    )
    read_by: ClassVar[frozenset[Loader]] = frozenset()

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        blocks, rescale = required(shapes, "blocks", "rescale")
        if len(blocks) != 4 or blocks[0] != 1:
            raise AdapterError(f"expected blocks [1, n, b, b], found {list(blocks)}; a butterfly is not supported")
        return (math.prod(rescale), blocks_rows(blocks, staged=True))

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> InputBOFT:
        return cls(parts["blocks"], parts["rescale"])

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        rotations = cayley(-0.5 * skew(self.blocks[0]))  # PEFT's is (I - Q)(I + Q)^-1 with Q = (B - B.T)/2
        count, size, _ = rotations.shape
        columns = weight.float().reshape(weight.shape[0], count, size)
        turned = torch.einsum("onb,ncb->onc", columns, rotations).reshape(weight.shape)
        return rescaled(turned, self.rescale) - weight.float()

    def cut(self, start: int, length: int, total: int) -> InputBOFT:
        return replace(self, rescale=self.rescale.flatten()[start : start + length])
