"""An adapter's tensors by field, apart from any spelling; and a scale folded into a tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

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
    return tensor if scale == 1 else kept(tensor.float() * scale, tensor.dtype)


def summable_dtype(*tensors: torch.Tensor) -> torch.dtype:
    """Return the narrowest number format that adds up such tensors: fp8 has no sums, and fp16 holds its numbers."""
    return reduce(torch.promote_types, (torch.float16 if one.element_size() == 1 else one.dtype for one in tensors))


def side_by_side(tensors: Sequence[torch.Tensor], axis: int) -> torch.Tensor:
    """Return tensors of any number formats one after the other, in their own if they have one."""
    if len({tensor.dtype for tensor in tensors}) > 1:
        dtype = summable_dtype(*tensors)
        tensors = [tensor.to(dtype) for tensor in tensors]
    return torch.cat(list(tensors), axis)


def kept(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor in the narrower `dtype` if that loses nothing."""
    short = tensor.to(dtype)
    return short if torch.equal(short.to(tensor.dtype), tensor) else tensor
