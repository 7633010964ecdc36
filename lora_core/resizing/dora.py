"""DoRA at another rank: W' = magnitude * V / |V| keeps its norms whatever V is, so only the direction of V counts."""

from __future__ import annotations

from dataclasses import replace

from ..adapters import DoRA
from ..factorised import Factors
from ..lazytorch import torch
from ..linalg import Svd, svd_of_product

_LEAST = 1e-6  # of the largest weight: a row that a magnitude of zero removes must still be a row


def svd_of_direction(dora: DoRA, factors: Factors, weight: torch.Tensor, rank: int) -> Svd:
    """Return singular values of the change that `factors` make in W', to first order, with `weight` (out, in·kernel).

    Where V = W + up·down is off by E, W' is off by magnitude / |V| times E (less what of E lies along V). So the change
    is weighted by that before it is cut, and freed of it afterwards: `left` or `right` is then not orthonormal.
    Nothing dense but the weight is needed: the norms of V follow from W·down.T and the factors. My derivation.
    """
    up, down = factors
    if not dora.of_input:
        weights = _weights(dora.magnitude, _norms(weight, up, down))[:, None].float()
        found = svd_of_product(up * weights, down, rank)
        return replace(found, left=found.left / weights)
    kernel = weight.shape[1] // dora.magnitude.numel()
    squares = _norms(weight.t(), down.t(), up.t()).square().reshape(-1, kernel).sum(1)
    weights = _weights(dora.magnitude, squares.sqrt()).repeat_interleave(kernel).float()
    found = svd_of_product(up, down * weights, rank)
    return replace(found, right=found.right / weights)


def _norms(weight: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """Return the norm of each row of weight + up·down in fp64."""
    squares = torch.linalg.vector_norm(weight, dim=1, dtype=torch.float64).square()
    crossed = ((weight @ down.t()).double() * up.double()).sum(1)
    own = ((up.double() @ (down.double() @ down.double().t())) * up.double()).sum(1)
    return (squares + 2 * crossed + own).clamp_min(0.0).sqrt()


def _weights(magnitude: torch.Tensor, norms: torch.Tensor) -> torch.Tensor:
    weights = magnitude.double().flatten().abs() / norms.clamp_min(torch.finfo(torch.float32).tiny)
    return weights.clamp_min(float(weights.max()) * _LEAST or 1.0)
