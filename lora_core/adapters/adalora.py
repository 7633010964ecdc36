"""AdaLoRA: delta = alpha / r · B · diag(E) · A, with a rank of its own in each module and one r for all.

Zhang et al., arXiv:2303.10512, as PEFT has it, which divides by r + 0.00001.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from .lora import LoRA
from .peft import PeftLoRA, number_option, whole_option
from .shapes import Shape, Shapes
from .spelling import Part, suffix_rows
from .stored import Told


@dataclass(frozen=True, slots=True)
class AdaLoRA(PeftLoRA):
    """How a file holds it, beside LoRA's names; once read it is a LoRA. A module may have lost all of its ranks."""

    id: ClassVar[str] = "adalora"
    kind: ClassVar[str] = "AdaLoRA"
    suffixes: ClassVar[tuple[Part, ...]] = (
        *(row for row in LoRA.suffixes if row.suffix in (".lora_A", ".lora_B")),
        *suffix_rows("lora", "sizes", ".lora_E", ".lora_E.default"),
        *suffix_rows("lora", "ranks", ".ranknum", ".ranknum.default"),
    )

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        up, down, sizes = (shapes.get(name) for name in ("up", "down", "sizes"))
        if not (up and down and sizes) or not len(up) == len(down) == 2:
            raise AdapterError("expected three matrices lora_A, lora_B and lora_E")
        if sizes != (down[0], 1) or up[1] != down[0] or 0 in (up[0], down[1]):
            raise AdapterError(f"the ranks of A {list(down)}, B {list(up)} and E {list(sizes)} differ")
        return (up[0], down[1])

    @classmethod
    def is_meant(cls, module: str, shapes: Shapes) -> bool:
        return "sizes" in shapes

    @classmethod
    def settings_of(cls, shapes: Shapes, told: Told) -> dict[str, Any]:
        """PEFT divides by the rank that a module had before it gave any away, which is an alpha not above 0 too."""
        ranks = told.number("ranks") if "ranks" in shapes else whole_option(told, "init_r")
        alpha = number_option(told, "lora_alpha")
        return {"factor": (alpha if alpha > 0 else ranks) / (ranks + 1e-5)}

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> LoRA:
        return LoRA(parts["up"], parts["down"].float() * parts["sizes"].float(), None, settings["factor"])
