"""Changes as products of low rank: what the kinds share that can say so without forming the delta."""

from __future__ import annotations

import math

from ..algebra.factored import Factors
from ..lazytorch import torch
from .shapes import Shape

_HIGHEST_RANK = 1024  # above it the factors are no cheaper than the change
_FEW = 2**20  # numbers that are made in any order
_FAR = 4  # times what a product takes or makes: more in between is made the other way round


def product(a: torch.Tensor, b: torch.Tensor, core: torch.Tensor | None) -> torch.Tensor:
    """Return a·b as (out, in·kernel), or with a Tucker core (r, r', *kernel) a.T·core·b as (out, in, *kernel)."""
    if core is None:
        return a.float().flatten(1) @ b.float().flatten(1)
    if is_folded_outward(tuple(core.shape), a.shape[1], b.shape[1]):
        return torch.einsum("pj...,jq->pq...", torch.einsum("ij...,ip->pj...", core.float(), a.float()), b.float())
    return torch.einsum("ij...,jq,ip->pq...", core.float(), b.float(), a.float())


def sides(a: torch.Tensor, b: torch.Tensor, core: torch.Tensor | None) -> Factors:
    """Return a (out, r) and b (r, in·kernel) in fp32, a Tucker core (r, r', *kernel) folded into b.

    Where that is far larger than the core and the product, one of the factors is the product, the other the identity.
    """
    if core is None:
        return a.float().flatten(1).contiguous(), b.float().flatten(1).contiguous()
    if is_folded_outward(tuple(core.shape), a.shape[1], b.shape[1]):
        return with_identity(product(a, b, core).flatten(1))
    return a.float().t().contiguous(), torch.einsum("ij...,jq->iq...", core.float(), b.float()).flatten(1)


def with_identity(matrix: torch.Tensor) -> Factors:
    """Return a matrix as factors of its shorter side's rank."""
    one = torch.eye(min(matrix.shape), device=matrix.device)
    return (one, matrix) if matrix.shape[0] <= matrix.shape[1] else (matrix, one)


def narrowed(factors: Factors) -> Factors:
    """Return factors, those of a far higher rank than their product has as the product and the identity."""
    up, down = factors
    return factors if up.shape[1] <= 2 * min(up.shape[0], down.shape[1]) else with_identity(up @ down)


def product_square(up: torch.Tensor, down: torch.Tensor) -> float:
    """Return |up · down|² from the factors' Gram matrices."""
    up, down = up.float(), down.float()
    return max(0.0, float(((up.t() @ up) * (down @ down.t())).sum()))


def change_square_of(factors: Factors | None) -> float | None:
    """Return |up · down|², None where that is no cheaper than the change."""
    return product_square(*factors) if factors is not None and factors[1].shape[0] <= _HIGHEST_RANK else None


def is_folded_outward(core: Shape, rows: int, columns: int) -> bool:
    """Tell whether to multiply a core [i, j, *kernel] with the factor of the rows first.

    The usual way makes [i, columns·kernel], which an i far above the rows makes larger than all else.
    """
    kernel = math.prod(core[2:])
    return core[0] * columns * kernel > _FAR * max(_FEW, rows * columns * kernel, math.prod(core))
