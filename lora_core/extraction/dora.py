"""DoRA of a known change: the tuned weight's magnitudes, and the change of directions that goes with them.

W' = m ∘ V / ‖V‖ by rows (arXiv:2402.09353). The tuned weight T has m = ‖T‖; any V with T's directions gives it, and the
one with the lengths of W, V = T · ‖W‖ / m, is nearest to W, so that a low rank fits V − W best. Our derivation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..lazytorch import torch
from ..linalg import Svd
from ..writing import Writing, suffix
from .sources import Change, sum_of_squares

_NEGLIGIBLE = 1e-30  # a singular value that changes no bit, and keeps a magnitude in a file


@dataclass(frozen=True, slots=True)
class Directions:
    """What a DoRA of a weight is fitted to; matrices are (out, in·kernel) in fp32."""

    weight: torch.Tensor  # W
    delta: torch.Tensor  # V − W
    magnitude: torch.Tensor  # (out,)

    def relative_error(self, up: torch.Tensor, down: torch.Tensor, size: float) -> float:
        """Return ‖W' − T‖ / `size` of the weight W' that the DoRA of these factors makes."""
        fitted = self.weight + up @ down
        fitted.mul_((self.magnitude / _norms(fitted).clamp_min(torch.finfo(torch.float32).tiny))[:, None])
        tuned = self.weight + self.delta
        tuned.mul_((self.magnitude / _norms(tuned).clamp_min(torch.finfo(torch.float32).tiny))[:, None])
        return math.sqrt(sum_of_squares(fitted.sub_(tuned))) / size


def directions_of(change: Change) -> Directions:
    """Return what to fit a DoRA of `change` to, which must be whole and have its weight."""
    assert change.whole is not None
    assert change.weight is not None
    weight = change.weight.float().flatten(1)
    tuned = weight + change.whole.flatten(1)
    lengths, magnitude = _norms(weight), _norms(tuned)
    # a row of zeros has no direction: one that was zeros takes the tuned row's, one that becomes zeros keeps its own
    scale = torch.where((lengths > 0) & (magnitude > 0), lengths / magnitude.clamp_min(1e-38), 1.0)
    tuned.mul_(scale[:, None])
    delta = torch.where((magnitude > 0)[:, None], tuned.sub_(weight), 0.0)
    return Directions(weight, delta, magnitude)


def magnitude_part(magnitude: torch.Tensor, dimensions: int, writing: Writing) -> tuple[str, torch.Tensor]:
    """Return (suffix, tensor) as a dialect has a magnitude of a weight of so many dimensions.

    In fp32, whatever the factors' format: its rounding is one of the whole weight, not of the change.
    """
    ones = (1,) * (dimensions - 2)
    length = magnitude.numel()
    ending = suffix(writing, "", "magnitude") or ""
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


def _norms(matrix: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(matrix, dim=1)
