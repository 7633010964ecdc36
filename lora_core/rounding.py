"""Number formats: what users call them, the one rounding into them, and how much of a change survives it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .lazytorch import torch

DTYPE_NAMES = {"fp32": "F32", "fp16": "F16", "bf16": "BF16", "fp8_e4m3fn": "F8_E4M3"}  # user's name -> header's

_PIECE = 2**22  # elements that are rounded stochastically at a time


def round_to(value: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, int]:
    """Return fp32 `value` rounded to nearest in `dtype`, and how many entries had to be clamped to its range."""
    if dtype in (torch.float32, torch.float64, torch.bfloat16):  # these hold the whole range of fp32
        return value.to(dtype), 0
    limit = torch.finfo(dtype).max
    if value.numel():
        low, high = torch.aminmax(value)  # one pass; the common case ends here
        if -limit <= float(low) and float(high) <= limit:
            return value.to(dtype), 0
    clamped = int((value.abs() > limit).sum())
    return (value.clamp(-limit, limit) if clamped else value).to(dtype), clamped


def round_stochastically(value: torch.Tensor, dtype: torch.dtype, seed: int) -> torch.Tensor:
    """Return fp32 `value` in an fp8 `dtype`: up or down at random, so that the mean is right; the seed decides.

    What `dtype` holds exactly stays as it is; what is beyond its range is clamped.
    """
    generator = torch.Generator(device=value.device).manual_seed(seed)
    result = torch.empty(value.shape, dtype=dtype, device=value.device)
    flat, written = value.reshape(-1), result.view(-1)
    for start in range(0, flat.numel(), _PIECE):
        piece = flat[start : start + _PIECE]
        written[start : start + _PIECE] = _stochastic(piece, dtype, generator).to(dtype)
    return result


def _stochastic(value: torch.Tensor, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    limits = torch.finfo(dtype)
    lowest = round(math.log2(limits.smallest_normal)) + 1  # frexp's exponents are of mantissas from 0.5 to 1
    exponent = torch.frexp(value).exponent.clamp_min_(lowest)
    step = torch.ldexp(torch.full_like(value, limits.eps / 2), exponent)
    # 16 bits of chance: with more, a sum could round up to the next whole number
    chance = torch.rand(value.shape, generator=generator, device=value.device).mul_(65536).floor_().div_(65536)
    return ((value / step).add_(chance).floor_() * step).clamp_(limits.min, limits.max)


@dataclass(slots=True)
class RealisedChange:
    """How far the written weights' change is from the exact one, over all layers that were rounded coarsely."""

    layers: int = 0
    _error: float = 0.0
    _change: float = 0.0

    @classmethod
    def of(
        cls, before: torch.Tensor, after: torch.Tensor, before_rounded: torch.Tensor, after_rounded: torch.Tensor
    ) -> RealisedChange:
        """Return that of one layer: its values before and after, and both as the written format holds them."""
        change = after - before.float()
        error = float((after_rounded - before_rounded.float()).sub_(change).norm()) ** 2
        return cls(1, error, float(change.norm()) ** 2)

    def add(self, other: RealisedChange) -> None:
        self.layers += other.layers
        self._error += other._error
        self._change += other._change

    @property
    def relative_error(self) -> float:
        """‖written change − exact change‖ / ‖exact change‖."""
        return math.sqrt(self._error / self._change) if self._change else 0.0
