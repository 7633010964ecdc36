"""DeLoRA: delta = B · diag(lambda / r / (|a_i| · |b_i|)) · A · diag(norms), with the norms of the base's columns.

Bini et al., arXiv:2503.18225, as PEFT has it: the norms are kept in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from .lora import LoRA
from .peft import PeftLoRA, with_dimensions
from .shapes import Shape, Shapes
from .spelling import Part, suffix_rows

_SMALLEST = 1e-4  # norm of a row that is divided by


@dataclass(frozen=True, slots=True)
class DeLoRA(PeftLoRA):
    """How a file holds it; once read it is a LoRA."""

    id: ClassVar[str] = "delora"
    kind: ClassVar[str] = "DeLoRA"
    suffixes: ClassVar[tuple[Part, ...]] = (
        *suffix_rows("delora", "up", ".delora_B"),
        *suffix_rows("delora", "down", ".delora_A"),
        *suffix_rows("delora", "size", ".delora_lambda"),
        *suffix_rows("delora", "norms", ".delora_w_norm"),
    )

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        up, down = with_dimensions(shapes, 2, "up", "down")
        size, norms = with_dimensions(shapes, 1, "size", "norms")
        if up[1] != down[0] or norms[0] != down[1] or size[0] != 1:
            raise AdapterError(
                f"A {list(down)}, B {list(up)}, lambda {list(size)} and norms {list(norms)} do not fit each other"
            )
        return (up[0], down[1])

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> LoRA:
        up, down = parts["up"].float(), parts["down"].float()
        lengths = down.norm(dim=1).clamp_min(_SMALLEST) * up.norm(dim=0).clamp_min(_SMALLEST)
        sizes = parts["size"].float() / len(down) / lengths
        return LoRA(up, down * sizes[:, None] * parts["norms"].float(), None, 1.0)
