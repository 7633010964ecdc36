"""DEFT: part of a weight is projected out, and another is put in its place: delta = Q · (s · R - right^T · W).

Kumar et al., "DEFT: Decompositional Efficient Fine-Tuning", 2025, as PEFT has it: Q and right are P and relu(P), or
both the orthogonal factor of P. Without R (PaRa) the part is only taken out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from .peft import PeftAdapter, choice_option, flat, is_linear_weight, number_option, with_dimensions
from .shapes import Shape, Shapes
from .spelling import Part, suffix_rows
from .stored import Told


@dataclass(frozen=True, slots=True)
class DEFT(PeftAdapter):
    """It reads the weight, so order matters in a stack."""

    plane: torch.Tensor  # P (out, r)
    instead: torch.Tensor | None  # R (r, in)
    is_orthogonal: bool
    scale: float  # of R

    id: ClassVar[str] = "deft"
    kind: ClassVar[str] = "DEFT"
    suffixes: ClassVar[tuple[Part, ...]] = (
        *suffix_rows("deft", "plane", ".deft_P"),
        *suffix_rows("deft", "instead", ".deft_R"),
    )

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        ((outputs, rank),) = with_dimensions(shapes, 2, "plane")
        instead = shapes.get("instead", (rank, 0))
        if len(instead) != 2 or instead[0] != rank or rank > outputs:
            raise AdapterError(f"P {[outputs, rank]} and R {list(instead)} do not fit each other")
        return (outputs, instead[1])

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape, **settings: Any) -> bool:
        outputs, inputs = cls.delta_shape(shapes)
        return is_linear_weight(weight) and weight[0] == outputs and inputs in (0, weight[1])

    @classmethod
    def settings_of(cls, shapes: Shapes, told: Told) -> dict[str, Any]:
        is_orthogonal = choice_option(told, "decomposition_method", ("relu", "qr")) == "qr"
        if choice_option(told, "para", (True, False)) == ("instead" in shapes):
            raise AdapterError("its configuration says otherwise than its tensors whether there is an R (para)")
        alpha = number_option(told, "alpha") if told.option("alpha") else 0
        return {"is_orthogonal": is_orthogonal, "factor": alpha / shapes["plane"][1] if alpha else 1.0}

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> DEFT:
        return cls(parts["plane"], parts.get("instead"), settings["is_orthogonal"], settings["factor"])

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        plane = self.plane.float()
        if self.is_orthogonal:
            plane, _ = torch.linalg.qr(plane)
            taken = plane.t() @ flat(weight)
        else:
            taken = plane.relu().t() @ flat(weight)
        put = 0 if self.instead is None else self.instead.float() * self.scale
        return (plane @ (put - taken)).reshape(weight.shape)
