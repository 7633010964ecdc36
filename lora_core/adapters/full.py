"""Differences stored whole: of a weight, of a bias, of a norm layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from .base import Shape


@dataclass(frozen=True, slots=True)
class FullDifference:
    """delta = scale · diff; scale is 1 but for the bias of a LoRA's up layer, which PEFT scales with the LoRA."""

    diff: torch.Tensor  # in the shape of the parameter
    scale: float = 1.0

    kind: ClassVar[str] = "full difference"
    additive: ClassVar[bool] = True

    @classmethod
    def delta_shape(cls, shapes: Mapping[str, Shape]) -> Shape:
        if "diff" not in shapes:
            raise AdapterError("has no difference tensor")
        return shapes["diff"]

    @classmethod
    def rank_of(cls, shapes: Mapping[str, Shape]) -> int | None:
        return None

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float) -> FullDifference:
        return cls(parts["diff"], scale)

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        return self.diff.float().reshape(weight.shape) * self.scale

    def factors(self) -> None:
        return None

    def state(self) -> tuple[tuple[torch.Tensor | None, ...], float]:
        return (self.diff,), self.scale

    @classmethod
    def from_state(cls, tensors: tuple[torch.Tensor | None, ...], scale: float) -> FullDifference:
        (diff,) = tensors
        assert diff is not None
        return cls(diff, scale)


@dataclass(frozen=True, slots=True)
class NormDifference(FullDifference):
    """A full difference of a normalisation layer's weight or bias (LyCORIS `train_norm`)."""

    kind: ClassVar[str] = "norm"


@dataclass(frozen=True, slots=True)
class BiasDifference(FullDifference):
    """A full difference of the bias beside a LoRA."""

    kind: ClassVar[str] = "bias"
