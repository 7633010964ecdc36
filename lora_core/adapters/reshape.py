"""Weights that a LoRA makes larger: the weight is padded with zeros before the adapter is applied.

ComfyUI's `reshape_weight`; control LoRAs (Flux.1 Canny and Depth) widen the input of the first layer in this way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from .base import Adapter
from .shapes import Shape
from .spelling import Part, suffix_rows

SUFFIXES: tuple[Part, ...] = suffix_rows("", "shape", ".reshape_weight")


@dataclass(frozen=True, slots=True)
class Reshape(Adapter):
    """An adapter for a weight padded to `shape`. Whoever applies it pads first, then applies `inner`."""

    inner: Adapter
    shape: Shape

    kind: ClassVar[str] = "reshape"

    @property
    def new_shape(self) -> Shape:
        return self.shape

    def on_padded(self) -> Adapter:
        return self.inner

    def padded(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the weight in the new shape, zeros where it had nothing; raises AdapterError if it is larger."""
        if not can_grow(tuple(weight.shape), self.shape):
            raise AdapterError(f"can't grow a weight of shape {list(weight.shape)} to {list(self.shape)}")
        result = weight.new_zeros(self.shape)
        result[tuple(slice(size) for size in weight.shape)] = weight
        return result

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the change of the padded weight, in its shape."""
        return self.inner.delta(self.padded(weight))


def can_grow(weight: Shape, shape: Shape) -> bool:
    """Tell whether zeros can pad a weight to `shape`."""
    return len(weight) == len(shape) and all(old <= new for old, new in zip(weight, shape, strict=True))
