"""BEFT and LN-tuning, as PEFT has them: a difference of the bias alone, and whole norm layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from .full import NormDifference, SetValue
from .shapes import Shape, Shapes, required
from .spelling import Part, suffix_rows


@dataclass(frozen=True, slots=True)
class BEFT(NormDifference):
    """How a file holds it, as one row; once read it is a difference."""

    id: ClassVar[str] = "beft"
    kind: ClassVar[str] = "BEFT"
    is_portable: ClassVar[bool] = False
    suffixes: ClassVar[tuple[Part, ...]] = suffix_rows("beft", "diff", ".beft_bias", param="bias")

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        (diff,) = required(shapes, "diff")
        if math.prod(diff) != max(diff, default=0):
            raise AdapterError(f"expected a vector, found {list(diff)}")
        return (math.prod(diff),)

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> NormDifference:
        return NormDifference(parts["diff"].flatten())


@dataclass(frozen=True, slots=True)
class LNTuning(SetValue):
    """How a file holds it; once read it is a value that takes the parameter's place."""

    id: ClassVar[str] = "ln_tuning"
    kind: ClassVar[str] = "LN-tuning"
    is_portable: ClassVar[bool] = False
    suffixes: ClassVar[tuple[Part, ...]] = (
        *suffix_rows("ln_tuning", "value", ".ln_tuning_layers.weight"),
        *suffix_rows("ln_tuning", "value", ".ln_tuning_layers.bias", param="bias"),
    )

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> SetValue:
        return SetValue(parts["value"])
