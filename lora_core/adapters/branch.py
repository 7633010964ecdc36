"""What an adapter is beside a weight: a cheap way to add its change to the output of a layer, whose weight stays.

y = W·x + b becomes y + s·(up·(down·x) + gain * (y - b)), or y + s·(w1 kron w2)·x in two small products.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..algebra.factored import Factors
from ..lazytorch import torch

_SHARE = 2  # of the layer's own multiplications, a branch may need one part in so many


@dataclass(frozen=True, slots=True)
class Branch:
    """A change of a weight [out, in·kernel] at strength 1, in fp32: of low rank, and of its rows as a whole."""

    factors: Factors | None  # up (out, r), down (r, in·kernel)
    gain: torch.Tensor | None = None  # (out,): the share of its own that each row gets more


@dataclass(frozen=True, slots=True)
class KroneckerBranch:
    """A change w1 kron w2 at strength 1, in fp32."""

    w1: torch.Tensor  # (out1, in1)
    w2: torch.Tensor  # (out2, in2, *kernel)


AnyBranch = Branch | KroneckerBranch


def low_rank_branch(factors: Factors | None) -> Branch | None:
    """Return a change of low rank as a branch, None if the change itself is cheaper."""
    if factors is None:
        return None
    (rows, rank), columns = factors[0].shape, factors[1].shape[1]
    return Branch(factors) if _SHARE * rank * (rows + columns) <= rows * columns else None


def row_dots(factors: Factors, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return <w, d> and |d|² of each row of a weight [out, in·kernel] and of d = up · down, which is not formed."""
    up, down = factors
    return ((weight @ down.t()) * up).sum(1), ((up @ (down @ down.t())) * up).sum(1)
