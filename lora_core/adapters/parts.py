"""An adapter's tensors by field, apart from any spelling; and a scale folded into a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..lazytorch import torch
from .shapes import Shape


@dataclass(frozen=True, slots=True)
class Parts:
    """An adapter's tensors by field, apart from any spelling."""

    kind: str  # of KINDS
    fields: Mapping[str, torch.Tensor]
    scale: float = 1.0
    rank: int | None = None
    alpha: torch.Tensor | None = None  # as the file has it
    magnitude: torch.Tensor | None = None
    magnitude_of_input: bool = False
    new_shape: Shape | None = None


def folded(tensor: torch.Tensor, scale: float) -> torch.Tensor:
    """Return the tensor times `scale`, in its own number format if that loses nothing, else in fp32."""
    return tensor if scale == 1 else _kept(tensor.float() * scale, tensor.dtype)


def _kept(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return an fp32 tensor in `dtype` if that loses nothing."""
    short = tensor.to(dtype)
    return short if torch.equal(short.to(tensor.dtype), tensor) else tensor
