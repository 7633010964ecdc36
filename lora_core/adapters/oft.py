"""OFT of the output axis: each block of output rows is rotated. Diag-OFT of LyCORIS, and OFT of kohya's scripts.

Qiu et al., arXiv:2306.07280. The file's alpha is no scale but a constraint: |Q| is at most alpha · out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from .numbers import holds_zeros
from .rotation import cayley, limited, rotate_rows, skew
from .shapes import Shape, Shapes, required
from .spelling import Part, suffix_rows
from .stored import AlphaUse, StoredAdapter, Told

_PIECES = 4  # at most, of a fused weight


@dataclass(frozen=True, slots=True)
class OutputRotation(StoredAdapter):
    """Rotations of the output axis, spelled alike: which they are, the shape and the module's name tell."""

    alpha: ClassVar[AlphaUse] = "constraint"
    suffixes: ClassVar[tuple[Part, ...]] = (
        *suffix_rows("oft", "blocks", ".oft_blocks"),
        *(Part(f".oft_blocks.{index}", "oft", f"blocks_{index}") for index in range(_PIECES)),  # kohya, Flux
        *suffix_rows("oft", "rescale", ".rescale"),
    )

    @classmethod
    def settings_of(cls, shapes: Shapes, told: Told) -> dict[str, Any]:
        return {"constraint": told.alpha()}


@dataclass(frozen=True, slots=True)
class DiagOFT(OutputRotation):
    """W' = rescale * R.T·W in blocks; without a constraint if it is 0, as LyCORIS has it."""

    blocks: torch.Tensor  # (n, b, b), n · b = out
    rescale: torch.Tensor | None  # (out, 1, …)
    constraint: float

    id: ClassVar[str] = "diag_oft"
    kind: ClassVar[str] = "Diag-OFT"

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        (blocks,) = required(shapes, "blocks")
        return (blocks_rows(blocks),)

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape, **settings: Any) -> bool:
        return len(weight) > 1 and cls.delta_shape(shapes)[0] == weight[0] and rescale_fits(shapes, weight[0])

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> DiagOFT:
        return cls(parts["blocks"], parts.get("rescale"), settings.get("constraint") or 0.0)

    def is_zero(self) -> bool:
        return self.rescale is None and holds_zeros(self.blocks)

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        turned = rotate_rows(self._rotations(self.constraint * weight.shape[0]), weight.float())
        return rescaled(turned, self.rescale) - weight.float()

    def comfyui_change(self, weight: torch.Tensor, strength: float) -> torch.Tensor:
        """ComfyUI takes the constraint without the width, leaves rescale out, and applies strength twice."""
        turned = rotate_rows(self._rotations(self.constraint), weight.float())
        return strength * strength * (turned - weight.float())

    def _rotations(self, most: float) -> torch.Tensor:
        q = skew(self.blocks)
        return cayley(limited(q, most) if self.constraint > 0 else q)


@dataclass(frozen=True, slots=True)
class KohyaOFT(OutputRotation):
    """Kohya's OFT: pieces of a fused weight have blocks and a constraint of their own, and 0 allows no rotation."""

    blocks: tuple[torch.Tensor, ...]  # of each piece (n, b, b)
    constraint: float

    id: ClassVar[str] = "kohya_oft"
    kind: ClassVar[str] = "OFT"

    @classmethod
    def is_meant(cls, module: str, shapes: Shapes) -> bool:
        return module.startswith("oft_unet_") or "blocks_0" in shapes

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        return (sum(map(blocks_rows, required(shapes, *_piece_names(shapes)))),)

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape, **settings: Any) -> bool:
        return len(weight) > 1 and cls.delta_shape(shapes)[0] == weight[0]

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> KohyaOFT:
        constraint = settings.get("constraint")
        if constraint is None:
            raise AdapterError("has no alpha, which kohya's OFT needs as its constraint")
        return cls(tuple(parts[name] for name in _piece_names(parts)), constraint)

    def is_zero(self) -> bool:
        return all(map(holds_zeros, self.blocks))

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        pieces = weight.float().split(self._sizes())
        turned = [
            rotate_rows(cayley(limited(skew(blocks), self.constraint * len(piece))), piece)
            for blocks, piece in zip(self.blocks, pieces, strict=True)
        ]
        return torch.cat(turned) - weight.float()

    def cut(self, start: int, length: int, total: int) -> KohyaOFT:
        ends = [sum(self._sizes()[:index]) for index in range(len(self.blocks) + 1)]
        if start in ends and start + length in ends:
            return KohyaOFT(self.blocks[ends.index(start) : ends.index(start + length)], self.constraint)
        raise AdapterError("OFT mixes the rows of a fused weight, so it can't be applied to a part of them")

    def _sizes(self) -> list[int]:
        return [blocks_rows(tuple(blocks.shape)) for blocks in self.blocks]


def blocks_rows(blocks: Shape, staged: bool = False) -> int:
    """Return how many rows (n, b, b), or stages of them, rotate; raises AdapterError for another shape."""
    if len(blocks) != (4 if staged else 3) or blocks[-1] != blocks[-2]:
        raise AdapterError(f"expected blocks [{'stages, ' if staged else ''}n, b, b], found {list(blocks)}")
    return blocks[-3] * blocks[-1]


def rescale_fits(shapes: Shapes, rows: int) -> bool:
    rescale = shapes.get("rescale")
    return rescale is None or (math.prod(rescale) == rows and sum(size != 1 for size in rescale) <= 1)


def rescaled(weight: torch.Tensor, rescale: torch.Tensor | None) -> torch.Tensor:
    """Return the weight with each output row times its entry of `rescale`."""
    return weight if rescale is None else weight * rescale.float().reshape(-1, *[1] * (weight.dim() - 1))


def _piece_names(parts: Mapping[str, Any]) -> list[str]:
    """Return the names of the blocks in the order of their rows; raises AdapterError if one is missing."""
    if "blocks" in parts:
        return ["blocks"]
    names = [f"blocks_{index}" for index in range(len(parts))]
    missing = [name for name in names if name not in parts]
    if missing or not names:
        raise AdapterError(f"the blocks of a piece are missing; it has {', '.join(parts) or 'none'}")
    return names
