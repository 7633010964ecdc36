"""Likeness and spectra of changes dW = up · down, from their factors alone: no dense matrix is formed.

Everything is summed in fp64, whatever the factors' dtype, at O((m + n) r²). Factors are two-dimensional, as
`Adapter.factors()` returns them, with every scale and strength folded in. Callers check that they are finite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ..lazytorch import torch
from .svd import svd_of_product

Factors: TypeAlias = "tuple[torch.Tensor, torch.Tensor]"  # up (m, r), down (r, n)
Spaces: TypeAlias = "tuple[torch.Tensor, torch.Tensor]"  # orthonormal bases of the columns (m, r), the rows (n, r)


@dataclass(frozen=True, slots=True)
class Overlap:
    """How far the spaces of two changes are the same, 0 to 1, and what two random spaces of those ranks share."""

    columns: float  # of what the changes write to: |Q1.T·Q2|_F² / min(r1, r2)
    rows: float  # of what they read
    columns_by_chance: float  # max(r1, r2) / m
    rows_by_chance: float  # max(r1, r2) / n

    @property
    def columns_above_chance(self) -> float:
        return self.columns - self.columns_by_chance

    @property
    def rows_above_chance(self) -> float:
        return self.rows - self.rows_by_chance


def inner(first: Factors, second: Factors) -> float:
    """Return <dW1, dW2> = sum (up1.T·up2) * (down1·down2.T), both of one shape."""
    return float(_products(first, second).sum())


def inner_products(changes: Sequence[Factors]) -> torch.Tensor:
    """Return all <dW_i, dW_j> of k changes of one shape as a (k, k) fp64 tensor on the CPU."""
    whole = torch.cat([up.double() for up, _ in changes], dim=1), torch.cat([down.double() for _, down in changes])
    owner = torch.repeat_interleave(torch.tensor([down.shape[0] for _, down in changes])).to(whole[0].device)
    # one change at a time: the whole matrix has the square of all ranks
    sums = torch.stack([_products(change, whole).sum(0) for change in changes])
    return torch.zeros_like(sums[:, : len(changes)]).index_add_(1, owner, sums).cpu()


def singular_values(change: Factors) -> torch.Tensor:
    """Return the min(m, r, n) largest singular values of dW in fp64, largest first; the others are zero."""
    return torch.linalg.svdvals(_core(change))


def effective_rank(values: torch.Tensor) -> float:
    """Return exp(H(p)), p = sigma²/sum sigma²: how many equal values are as spread out; 0 for a change of zeros.

    The entropy's exponential of Roy & Vetterli (EUSIPCO 2007), here over the squares, which are shares of |dW|².
    """
    squares = values.double().square()
    total = squares.sum()
    if not float(total):
        return 0.0
    return float(torch.special.entr(squares / total).sum().exp())


def spaces_of(change: Factors) -> Spaces:
    """Return orthonormal bases in fp64 of the column space (m, r) and the row space (n, r) of dW."""
    found = svd_of_product(*change)
    return found.left.double(), found.right.double().t()


def overlap_of(first: Spaces, second: Spaces) -> Overlap:
    """Return how far two changes of one shape write to and read from the same directions, whatever their strengths.

    Ranks count sigma > 1e-9·sigma1. A change of zeros overlaps with nothing.
    """
    (columns_1, rows_1), (columns_2, rows_2) = first, second
    least, most = sorted((columns_1.shape[1], columns_2.shape[1]))
    if not least:
        return Overlap(0.0, 0.0, 0.0, 0.0)
    shared = [float((a.t() @ b).square().sum()) / least for a, b in ((columns_1, columns_2), (rows_1, rows_2))]
    return Overlap(shared[0], shared[1], most / len(columns_1), most / len(rows_1))


def _products(first: Factors, second: Factors) -> torch.Tensor:
    """Return the (r1, r2) terms that sum up to <dW1, dW2>."""
    return (first[0].double().t() @ second[0].double()) * (first[1].double() @ second[1].double().t())


def _core(change: Factors) -> torch.Tensor:
    """Return R_up · R_down.T in fp64: a small matrix with the singular values of dW."""
    cores = [torch.linalg.qr(factor.double(), mode="r").R for factor in (change[0], change[1].t())]
    return cores[0] @ cores[1].t()
