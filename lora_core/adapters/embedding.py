"""LoRA of an embedding as PEFT stores it: the factors lie on their side, for a weight [words, width].

delta = scale · (B · A).T, which is a LoRA with up = A.T and down = B.T.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..lazytorch import torch
from .lora import LoRA
from .peft import with_dimensions
from .shapes import Shape, Shapes
from .spelling import LOOKUP_FACTORS, Part, suffix_rows


@dataclass(frozen=True, slots=True)
class EmbeddingLoRA(LoRA):
    """How a file holds it; once read it is a LoRA."""

    id: ClassVar[str] = "embedding"
    magnitude_of_input: ClassVar[bool] = True
    suffixes: ClassVar[tuple[Part, ...]] = (
        *(
            row
            for field, suffix in LOOKUP_FACTORS.items()
            for row in suffix_rows("embedding", field, suffix, f"{suffix}.default")
        ),
    )

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        up, down = with_dimensions(shapes, 2, "up", "down")
        return LoRA.delta_shape({"up": up[::-1], "down": down[::-1]})

    @classmethod
    def rank_of(cls, shapes: Shapes) -> int | None:
        return shapes["down"][-1] if shapes["down"] else None

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> LoRA:
        return LoRA(parts["up"].t(), parts["down"].t(), None, scale)

    @classmethod
    def in_files(cls, fields: Mapping[str, torch.Tensor]) -> tuple[str, Mapping[str, torch.Tensor]]:
        return LoRA.id, {field: tensor.t().contiguous() for field, tensor in fields.items()}
