"""Changes as products of low rank: what the kinds share that can say so without forming the delta."""

from __future__ import annotations

from ..algebra.factored import Factors
from ..lazytorch import torch

_HIGHEST_RANK = 1024  # above it the factors are no cheaper than the change


def sides(a: torch.Tensor, b: torch.Tensor, core: torch.Tensor | None) -> Factors:
    """Return a (out, r) and b (r, in·kernel) in fp32, a Tucker core (r, r, *kernel) folded into b."""
    if core is None:
        return a.float().flatten(1).contiguous(), b.float().flatten(1).contiguous()
    return a.float().t().contiguous(), torch.einsum("ij...,jq->iq...", core.float(), b.float()).flatten(1)


def product_square(up: torch.Tensor, down: torch.Tensor) -> float:
    """Return |up · down|² from the factors' Gram matrices."""
    up, down = up.float(), down.float()
    return max(0.0, float(((up.t() @ up) * (down @ down.t())).sum()))


def change_square_of(factors: Factors | None) -> float | None:
    """Return |up · down|², None where that is no cheaper than the change."""
    return product_square(*factors) if factors is not None and factors[1].shape[0] <= _HIGHEST_RANK else None
