"""MiSS, once called Bone: one small block is added to every run of r inputs.

Kang and Yin, arXiv:2409.15371, as PEFT has it. Its variant "bat" also turns each block of the weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from .numbers import holds_zeros
from .peft import PeftAdapter, flat, is_linear_weight
from .shapes import Shape, Shapes, required
from .spelling import Part, suffix_rows
from .stored import Told

_SUFFIXES = suffix_rows("miss", "block", ".miss_block", ".bone_block")


@dataclass(frozen=True, slots=True)
class MiSS(PeftAdapter):
    """delta[o, i] = block[i mod r, o]; of the variant "mini" o is taken mod its number of columns."""

    block: torch.Tensor  # (r, out), or (r, some number that divides out)
    is_mini: bool

    id: ClassVar[str] = "miss"
    kind: ClassVar[str] = "MiSS"
    additive: ClassVar[bool] = True
    suffixes: ClassVar[tuple[Part, ...]] = _SUFFIXES

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        (block,) = required(shapes, "block")
        if len(block) != 2:
            raise AdapterError(f"expected a block [r, out], found {list(block)}")
        return (0, 0)

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape, **settings: Any) -> bool:
        rank, columns = shapes["block"]
        whole = weight and (weight[0] % columns == 0 if settings.get("is_mini") else weight[0] == columns)
        return bool(whole) and is_linear_weight(weight) and rank <= weight[1]

    @classmethod
    def settings_of(cls, shapes: Shapes, told: Told) -> dict[str, Any]:
        return {"is_mini": told.option("init_weights") == "mini"}

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> MiSS:
        return cls(parts["block"], settings.get("is_mini", False))

    def is_zero(self) -> bool:
        return holds_zeros(self.block)

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        matrix = flat(weight)
        rows = self._of_rows(len(matrix)).float().t()  # (out, r)
        repeats = -(-matrix.shape[1] // rows.shape[1])
        return rows.repeat(1, repeats)[:, : matrix.shape[1]].reshape(weight.shape)

    def cut(self, start: int, length: int, total: int) -> MiSS:
        return replace(self, block=self._of_rows(total)[:, start : start + length], is_mini=False)

    def _of_rows(self, total: int) -> torch.Tensor:
        return self.block.repeat(1, total // self.block.shape[1]) if self.is_mini else self.block


@dataclass(frozen=True, slots=True)
class MiSSBat(PeftAdapter):
    """delta of each block [r, r] of the weight = W · block + block, with one block for each run of r outputs."""

    block: torch.Tensor  # (out / r, r, r)

    id: ClassVar[str] = "miss_bat"
    kind: ClassVar[str] = "MiSS"
    suffixes: ClassVar[tuple[Part, ...]] = _SUFFIXES

    @classmethod
    def is_meant(cls, module: str, shapes: Shapes) -> bool:
        return len(shapes.get("block", ())) == 3

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        (block,) = required(shapes, "block")
        if len(block) != 3 or block[1] != block[2]:
            raise AdapterError(f"expected a block [out / r, r, r], found {list(block)}")
        return (block[0] * block[1], 0)

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape, **settings: Any) -> bool:
        number, rank, _ = shapes["block"]
        return is_linear_weight(weight) and weight[0] == number * rank and weight[1] % rank == 0

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> MiSSBat:
        return cls(parts["block"])

    def is_zero(self) -> bool:
        return holds_zeros(self.block)

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        block = self.block.float()
        number, rank, _ = block.shape
        pieces = flat(weight).reshape(number, rank, -1, rank).permute(2, 0, 1, 3)  # (in / r, out / r, r, r)
        return (pieces @ block + block).permute(1, 2, 0, 3).reshape(weight.shape)
