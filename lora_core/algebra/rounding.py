"""Number formats: what users call them, the one rounding into them, and how much of a change survives it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..lazytorch import torch

_WHOLE, _ROW_STEP = 2**14, 41
_PIECE = 2**17  # numbers that are worked on at a time: they and what is made of them stay in the processor's cache


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
    size = min(_PIECE if value.device.type == "cpu" else flat.numel(), flat.numel())
    sums, powers = torch.empty((2, size), dtype=torch.float32, device=value.device)
    words = torch.empty(-(-size // 4), dtype=torch.int64, device=value.device)
    for start in range(0, flat.numel(), max(size, 1)):
        piece = flat[start : start + size]
        count = piece.numel()
        # odd numbers of 16 bits: their mean is 0, and a value on the grid stays clear of the middle between two steps
        words.random_(-(2**63), None, generator=generator).bitwise_or_(0x0001_0001_0001_0001)
        noise = sums[:count].copy_(words.view(torch.int16)[:count])
        written[start : start + size].copy_(_stochastic(piece, dtype, noise, powers[:count]))
    return result


def _stochastic(value: torch.Tensor, dtype: torch.dtype, noise: torch.Tensor, power: torch.Tensor) -> torch.Tensor:
    """Return `value` on the grid of `dtype`, in `noise`, which holds numbers between -2^15 and 2^15 at random.

    With noise of up to half a step, rounding to nearest is stochastic rounding. A step is `eps` times the value's power
    of two, and no smaller than where the grid becomes even. A large number that has this step as its own last place
    rounds to it: adding and taking it away again is faster than a division.
    """
    limits = torch.finfo(dtype)
    value = value.clamp(limits.min, limits.max)
    exponents = torch.bitwise_and(value.view(torch.int32), 0x7F80_0000, out=power.view(torch.int32))
    exponents.clamp_min_(int(torch.tensor(limits.smallest_normal).view(torch.int32)))
    torch.addcmul(value, power, noise, value=2.0**-16 * limits.eps, out=noise)
    power.mul_(1.5 * 2**23 * limits.eps)
    return noise.add_(power).sub_(power)


@dataclass(slots=True)
class RealisedChange:
    """How far the written weights' change is from the exact one, over all layers of one number format."""

    layers: int = 0
    _error: float = 0.0
    _change: float = 0.0
    _along: float = 0.0  # <written change, exact change>

    @classmethod
    def of(
        cls, before: torch.Tensor, after: torch.Tensor, before_rounded: torch.Tensor, after_rounded: torch.Tensor
    ) -> RealisedChange:
        """Return that of one layer: its values before and after, and both as the written format holds them.

        A layer whose numbers are not all finite tells nothing.
        """
        error = change = along = 0.0
        tensors = (before, after, before_rounded, after_rounded)
        for pieces in zip(*(tensor.reshape(-1).split(_PIECE) for tensor in tensors), strict=True):
            first, then, first_rounded, then_rounded = (piece.float() for piece in pieces)
            exact, written = then - first, then_rounded - first_rounded
            change += float(torch.dot(exact, exact))
            along += float(torch.dot(exact, written))
            lost = written.sub_(exact)
            error += float(torch.dot(lost, lost))
        return cls(1, error, change, along) if math.isfinite(error + change) else cls()

    def add(self, other: RealisedChange) -> None:
        self.layers += other.layers
        self._error += other._error
        self._change += other._change
        self._along += other._along

    def times(self, factor: float) -> RealisedChange:
        """Return it for so many times the rows."""
        return RealisedChange(self.layers, self._error * factor, self._change * factor, self._along * factor)

    @property
    def relative_error(self) -> float:
        """|written change - exact change| / |exact change|."""
        return math.sqrt(self._error / self._change) if self._change else 0.0

    @property
    def strength(self) -> float:
        """How strong the exact change is in the written one: 1 where rounding is right on average, less if it shrinks
        the change."""
        return self._along / self._change if self._change else 1.0


class SampledRows:
    """Some rows of a weight, evenly spread, before a change and after it, but before it is rounded.

    One row of 41: in a model of hundreds of layers that is millions of numbers, and the error that they tell is that of
    all rows within a few hundredths of itself, also where the rows are not alike. 41, so that no pattern of heads or
    pairs of rows fits. Weights of up to 2^14 numbers are taken whole.
    """

    def __init__(self, weight: torch.Tensor, exact: torch.Tensor | None = None) -> None:
        """Take the weight before the change, and the changed one at once if it is known."""
        matrix = _matrix(weight)
        self.sum = 0.0  # of all values after the change, and so NaN or infinity if one of them is
        self._step = 1 if matrix.numel() <= _WHOLE else _ROW_STEP
        self._share = len(matrix[:: self._step]) / max(len(matrix), 1)
        self.before = matrix[:: self._step].clone()
        self.exact = (matrix if exact is None else _matrix(exact))[:: self._step].float()

    def take(self, tile: torch.Tensor, rows: slice, columns: slice) -> None:
        """Keep what is sampled of the changed weight's fp32 values at these rows and columns."""
        self.sum += float(tile.sum())  # while it is in the processor's cache
        first = -rows.start % self._step
        taken = tile[first :: self._step]
        start = (rows.start + first) // self._step
        self.exact[start : start + len(taken), columns] = taken

    def realised(self, written: torch.Tensor) -> RealisedChange:
        """Return what became of the change in the whole weight; the input counts as the written format holds it."""
        rounded = round_to(self.before.float(), written.dtype)[0]
        found = RealisedChange.of(self.before, self.exact, rounded, _matrix(written)[:: self._step])
        return found.times(1 / self._share) if self._share else found


def _matrix(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(tensor.shape[0] if tensor.dim() else 1, -1)
