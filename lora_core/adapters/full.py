"""Whole tensors: differences of a weight, a bias or a norm layer, and values that take a parameter's place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from .base import ScaledAdapter, Shape, Shapes, StoredAdapter, required


@dataclass(frozen=True, slots=True)
class FullDifference(ScaledAdapter):
    """delta = scale · diff; scale is 1 but for the bias of a LoRA's up layer, which PEFT scales with the LoRA."""

    diff: torch.Tensor  # in the shape of the parameter
    scale: float = 1.0

    kind: ClassVar[str] = "full difference"
    additive: ClassVar[bool] = True

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        if "diff" not in shapes:
            raise AdapterError("has no difference tensor")
        return shapes["diff"]

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> FullDifference:
        return cls(parts["diff"], scale)

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        return self.diff.float().reshape(weight.shape) * self.scale

    def cut(self, start: int, length: int, total: int) -> FullDifference:
        return replace(self, diff=self.diff[start : start + length])


@dataclass(frozen=True, slots=True)
class NormDifference(FullDifference):
    """A full difference of a normalisation layer's weight or bias (LyCORIS `train_norm`)."""

    kind: ClassVar[str] = "norm"


@dataclass(frozen=True, slots=True)
class BiasDifference(FullDifference):
    """A full difference of the bias beside a LoRA."""

    kind: ClassVar[str] = "bias"


@dataclass(frozen=True, slots=True)
class SetValue(StoredAdapter):
    """W' = value: ComfyUI's `set_weight`, and the norms of control LoRAs (Flux.1 Canny and Depth)."""

    value: torch.Tensor  # in the shape of the parameter

    kind: ClassVar[str] = "set"

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        return required(shapes, "value")[0]

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> SetValue:
        return cls(parts["value"])

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        return self.value.float().reshape(weight.shape) - weight.float()

    def cut(self, start: int, length: int, total: int) -> SetValue:
        return replace(self, value=self.value[start : start + length])

    def comfyui_change(self, weight: torch.Tensor, strength: float) -> torch.Tensor:
        """The value is copied there whatever the strength."""
        return self.delta(weight)
