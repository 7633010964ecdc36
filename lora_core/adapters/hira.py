"""HiRA: delta = W * (B · A), each entry of the weight times one of a low-rank matrix.

Huang et al., "HiRA: Parameter-Efficient Hadamard High-Rank Adaptation", ICLR 2025, as PEFT has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..lazytorch import torch
from .lora import LoRA
from .numbers import holds_zeros
from .peft import PeftAdapter, with_dimensions
from .shapes import Shape, Shapes
from .spelling import Part, suffix_rows


@dataclass(frozen=True, slots=True)
class HiRA(PeftAdapter):
    """It reads the weight, so order matters in a stack."""

    up: torch.Tensor  # (out, r) or (out, r, 1, 1)
    down: torch.Tensor  # (r, in) or (r, in, *kernel)

    id: ClassVar[str] = "hira"
    kind: ClassVar[str] = "HiRA"
    is_portable: ClassVar[bool] = True
    suffixes: ClassVar[tuple[Part, ...]] = (
        *suffix_rows("hira", "up", ".hira_B"),
        *suffix_rows("hira", "down", ".hira_A"),
    )

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        return LoRA.delta_shape(shapes)

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> HiRA:
        return HiRA(parts["up"], parts["down"])

    def is_zero(self) -> bool:
        return holds_zeros(self.up) or holds_zeros(self.down)

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        product = self.up.float().flatten(1) @ self.down.float().flatten(1)
        return product.reshape(weight.shape) * weight.float()

    def cut(self, start: int, length: int, total: int) -> HiRA:
        return replace(self, up=self.up[start : start + length])


@dataclass(frozen=True, slots=True)
class EmbeddingHiRA(HiRA):
    """How a file holds that of an embedding, with the factors on their side; once read it is a HiRA."""

    id: ClassVar[str] = "hira_embedding"
    suffixes: ClassVar[tuple[Part, ...]] = (
        *suffix_rows("hira_embedding", "up", ".hira_embedding_A"),  # (r, words)
        *suffix_rows("hira_embedding", "down", ".hira_embedding_B"),  # (width, r)
    )

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        up, down = with_dimensions(shapes, 2, "up", "down")
        return LoRA.delta_shape({"up": up[::-1], "down": down[::-1]})

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> HiRA:
        return HiRA(parts["up"].t(), parts["down"].t())
