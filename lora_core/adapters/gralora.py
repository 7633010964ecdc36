"""GraLoRA: a LoRA for each of the k · k blocks of a weight, of rank r / k, and a plain one for all of it beside.

Jung et al., arXiv:2505.20355, as PEFT has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from .lora import LoRA
from .peft import PeftLoRA, number_option, with_dimensions
from .shapes import Shape, Shapes
from .spelling import Part, suffix_rows
from .stored import Told


@dataclass(frozen=True, slots=True)
class GraLoRA(PeftLoRA):
    """How a file holds it; once read it is a LoRA of rank k · r."""

    id: ClassVar[str] = "gralora"
    kind: ClassVar[str] = "GraLoRA"
    suffixes: ClassVar[tuple[Part, ...]] = (
        *suffix_rows("gralora", "down", ".gralora_A"),  # (k, in / k, r)
        *suffix_rows("gralora", "up", ".gralora_B"),  # (k, r, out / k)
        *suffix_rows("gralora", "general_down", ".gralora_A_general.weight"),  # (h, in)
        *suffix_rows("gralora", "general_up", ".gralora_B_general.weight"),  # (out, h)
    )

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        down, up = with_dimensions(shapes, 3, "down", "up")
        blocks, inputs, rank = down
        if up[:2] != (blocks, rank) or rank % blocks:
            raise AdapterError(f"A {list(down)} and B {list(up)} do not fit each other")
        shape = (blocks * up[2], blocks * inputs)
        general = {name: shapes[f"general_{name}"] for name in ("up", "down") if f"general_{name}" in shapes}
        if general and LoRA.delta_shape(general) != shape:
            raise AdapterError(f"the blocks make {list(shape)} and the general factors {list(general.values())}")
        return shape

    @classmethod
    def room(cls, shapes: Shapes, weight: Shape, **settings: Any) -> int:
        """Factors of rank k · r, zeros for the most part."""
        blocks, inputs, rank = shapes["down"]
        return blocks * rank * blocks * (inputs + shapes["up"][2])

    @classmethod
    def settings_of(cls, shapes: Shapes, told: Told) -> dict[str, Any]:
        rank = shapes["down"][2] + shapes.get("general_down", (0,))[0]
        return {"factor": number_option(told, "alpha") / rank}

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> LoRA:
        factors = _factors(parts["down"].float(), parts["up"].float())
        if "general_up" in parts:
            general = parts["general_up"].float(), parts["general_down"].float()
            factors = torch.cat((factors[0], general[0]), dim=1), torch.cat((factors[1], general[1]))
        return LoRA(*factors, None, settings["factor"])


def _factors(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the blocks' factors laid into zeros: block (j, n) has the ranks n·s… of B_j and j·s… of A_n."""
    blocks, inputs, rank = a.shape
    outputs, own = b.shape[2], rank // blocks
    up, down = a.new_zeros(blocks, outputs, blocks, rank), a.new_zeros(blocks, rank, blocks, inputs)
    for j in range(blocks):
        up[j, :, j] = b[j].t()
        for n in range(blocks):
            down[j, n * own : (n + 1) * own, n] = a[n, :, j * own : (j + 1) * own].t()
    return up.reshape(blocks * outputs, -1), down.reshape(blocks * rank, -1)
