"""Adapter kinds: one class each. A kind of the suffix table that is missing here is named and not applied."""

from __future__ import annotations

from .base import Adapter, Shape, same_but_ones
from .full import BiasDifference, FullDifference, NormDifference
from .lora import LoRA

# kind in the suffix table -> its class
KINDS: dict[str, type[Adapter]] = {
    "lora": LoRA,
    "full": FullDifference,
    "norm": NormDifference,
    "bias": BiasDifference,
}

__all__ = ["KINDS", "Adapter", "BiasDifference", "FullDifference", "LoRA", "NormDifference", "Shape", "same_but_ones"]
