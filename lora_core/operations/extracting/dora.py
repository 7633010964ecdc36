"""DoRA of a known change: the tuned weight's magnitudes, and the change of directions that goes with them.

W' = m * V / |V| by rows (arXiv:2402.09353). The tuned weight T has m = |T|; any V with T's directions gives it, and the
one with the lengths of W, V = T · |W| / m, is nearest to W, so that a low rank fits V - W best. Our derivation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ...adapters.dora import WRITTEN
from ...algebra.svd import Svd
from ...lazytorch import torch
from ...naming.dialects import Writing
from .comparison import sum_of_squares

_PIECE = 2**20  # numbers
_TINY = 1e-38  # what zeros are divided by
_NEGLIGIBLE = 1e-30  # a singular value that changes no bit, and keeps a magnitude in a file


@dataclass(slots=True)
class DoraErrors:
    """sum |W' - T|² of the DoRA, and of the best LoRAs of the same ranks, and sum |dW|²."""

    dora: float = 0.0
    lora: float = 0.0
    change: float = 0.0

    def note(self) -> str:
        dora, lora = (math.sqrt(max(0.0, value) / self.change) for value in (self.dora, self.lora))
        return f"DoRA: relative error {dora:.2%}; LoRA of the same ranks: {lora:.2%}"


@dataclass(frozen=True, slots=True)
class Directions:
    """What a DoRA of a weight is fitted to; matrices are (out, in·kernel)."""

    weight: torch.Tensor  # W, in its own dtype; maybe a loaded model's own, so never changed
    delta: torch.Tensor  # V - W in fp32
    magnitude: torch.Tensor  # (out,) in fp32

    def relative_error(self, up: torch.Tensor, down: torch.Tensor, size: float) -> float:
        """Return |W' - T| / `size` of the weight W' that the DoRA of these factors makes."""
        square = 0.0
        for rows in _pieces(self.delta):
            base, magnitude = self.weight[rows].float(), self.magnitude[rows]
            fitted = _with_lengths(base + up[rows] @ down, magnitude)
            square += sum_of_squares(fitted.sub_(_with_lengths(base + self.delta[rows], magnitude)))
        return math.sqrt(square) / size


def directions_of(weight: torch.Tensor, change: torch.Tensor) -> Directions:
    """Return what to fit a DoRA of this change (out, in·kernel) of a weight to."""
    weight, delta = weight.flatten(1), change.clone()
    magnitude = torch.empty(len(delta), device=delta.device)
    for rows in _pieces(delta):
        base = weight[rows].float()
        tuned = delta[rows].add_(base)
        lengths, longer = _norms(base), _norms(tuned)
        # a row of zeros has no direction: one that was zeros takes the tuned row's, one that becomes zeros its own
        scale = torch.where((lengths > 0) & (longer > 0), lengths / longer.clamp_min(_TINY), 1.0)
        tuned.mul_(scale[:, None]).sub_(base)
        tuned[longer == 0] = 0
        magnitude[rows] = longer
    return Directions(weight, delta, magnitude)


def magnitude_part(magnitude: torch.Tensor, dimensions: int, writing: Writing) -> tuple[str, torch.Tensor]:
    """Return (suffix, tensor) as a dialect has a magnitude of a weight of so many dimensions.

    In fp32, whatever the factors' format: its rounding is one of the whole weight, not of the change.
    """
    ones = (1,) * (dimensions - 2)
    length = magnitude.numel()
    ending = WRITTEN[writing.family]
    if writing.has_alpha:
        return ending, magnitude.reshape(length, 1, *ones)
    return ending, magnitude.reshape(1, length, *ones) if ones else magnitude


def or_nothing(found: Svd) -> Svd:
    """Return the values, or a single one that changes nothing if there is none: no file has a magnitude alone."""
    if found.total > 0 and len(found.values):
        return found
    left, right = torch.zeros(found.left.shape[0], 1), torch.zeros(1, found.right.shape[1])
    left[0, 0] = right[0, 0] = 1.0
    return Svd(left, torch.tensor([_NEGLIGIBLE], dtype=torch.float64), right, _NEGLIGIBLE**2)


def _with_lengths(matrix: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Give the rows these lengths, in place."""
    return matrix.mul_((lengths / _norms(matrix).clamp_min(_TINY))[:, None])


def _pieces(matrix: torch.Tensor) -> Iterator[slice]:
    """Yield runs of rows, so that what is computed of each is small beside the matrix."""
    step = max(1, _PIECE // max(1, matrix.shape[1]))
    return (slice(first, first + step) for first in range(0, len(matrix), step))


def _norms(matrix: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(matrix, dim=1)
