"""Size, likeness and interference of changes dW = up · down, from their factors alone: no dense matrix is formed.

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
CANCELLING = 1e-6  # below this share of its terms' sizes, a Gram sum in fp64 is no longer good to 1e-9


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


def joined(changes: Sequence[Factors], weights: Sequence[float] | None = None) -> Factors:
    """Return factors, in fp64, of the weighted sum of w_i·dW_i, changes of one shape: exact, at the sum of ranks."""
    weights = [1.0] * len(changes) if weights is None else weights
    ups = [up.double() * weight for (up, _), weight in zip(changes, weights, strict=True)]
    return torch.cat(ups, dim=1), torch.cat([down.double() for _, down in changes])


def inner(first: Factors, second: Factors) -> float:
    """Return <dW1, dW2> = sum (up1.T·up2) * (down1·down2.T), both of one shape."""
    return float(_products(first, second).sum())


def inner_products(changes: Sequence[Factors]) -> torch.Tensor:
    """Return all <dW_i, dW_j> of k changes of one shape as a (k, k) fp64 tensor on the CPU, from one Gram matrix."""
    whole = joined(changes)
    owner = torch.repeat_interleave(torch.tensor([down.shape[0] for _, down in changes])).to(whole[0].device)
    sums = torch.zeros(len(changes), whole[0].shape[1], dtype=torch.float64, device=owner.device)
    sums.index_add_(0, owner, _products(whole, whole))
    return torch.zeros_like(sums[:, : len(changes)]).index_add_(1, owner, sums).cpu()


def norm(change: Factors) -> float:
    """Return |dW|_F; sums whose terms nearly cancel are taken from the QR core, good to 1e-16 of |up|·|down|."""
    products = _products(change, change)
    square = float(products.sum())
    if square > CANCELLING * float(products.abs().sum()):
        return square**0.5
    return float(torch.linalg.vector_norm(_core(change))) if products.numel() else 0.0


def singular_values(change: Factors) -> torch.Tensor:
    """Return the min(m, r, n) largest singular values of dW in fp64, largest first; the others are zero."""
    return torch.linalg.svdvals(_core(change))


def spectral_norm(change: Factors) -> float:
    """Return sigma1, how much dW lengthens a vector at most."""
    values = singular_values(change)
    return float(values[0]) if len(values) else 0.0


def cosine(first: Factors, second: Factors) -> float:
    """Return <dW1, dW2> / (|dW1|·|dW2|), 0 if either is zero."""
    sizes = norm(first) * norm(second)
    return max(-1.0, min(1.0, inner(first, second) / sizes)) if sizes else 0.0


def effective_rank(values: torch.Tensor) -> float:
    """Return exp(H(p)), p = sigma²/sum sigma²: how many equal values are as spread out; 0 for a change of zeros.

    The entropy's exponential of Roy & Vetterli (EUSIPCO 2007), here over the squares, which are shares of |dW|².
    """
    squares = values.double().square()
    total = squares.sum()
    if not float(total):
        return 0.0
    return float(torch.special.entr(squares / total).sum().exp())


def subspace_overlap(first: Factors, second: Factors) -> Overlap:
    """Return how far two changes of one shape write to and read from the same directions, whatever their strengths.

    Ranks count sigma > 1e-9·sigma1. A change of zeros overlaps with nothing.
    """
    return overlap_of(spaces_of(first), spaces_of(second))


def spaces_of(change: Factors) -> Spaces:
    """Return orthonormal bases in fp64 of the column space (m, r) and the row space (n, r) of dW."""
    found = svd_of_product(*change)
    return found.left.double(), found.right.double().t()


def overlap_of(first: Spaces, second: Spaces) -> Overlap:
    """Return `subspace_overlap` of changes whose spaces are known."""
    (columns_1, rows_1), (columns_2, rows_2) = first, second
    least, most = sorted((columns_1.shape[1], columns_2.shape[1]))
    if not least:
        return Overlap(0.0, 0.0, 0.0, 0.0)
    shared = [float((a.t() @ b).square().sum()) / least for a, b in ((columns_1, columns_2), (rows_1, rows_2))]
    return Overlap(shared[0], shared[1], most / len(columns_1), most / len(rows_1))


def energy_overlap(change: Factors, other: Factors) -> float:
    """Return |Q.T dW|_F / |dW|_F, Q the directions that `other` writes to: how much of `change` lies in its outputs.

    0 to 1, both changes with m rows; sqrt(r/m) by chance, r the rank of `other`.
    """
    whole = norm(change)
    basis, _ = spaces_of(other)
    return min(1.0, norm((basis.t() @ change[0].double(), change[1])) / whole) if whole else 0.0


def interference(changes: Sequence[Factors], weights: Sequence[float] | None = None) -> float:
    """Return |sum w_i·dW_i|² / sum |w_i·dW_i|² of changes of one shape.

    1: they are orthogonal; above, they reinforce each other (up to their number); below, they cancel (down to 0).
    """
    weights = [1.0] * len(changes) if weights is None else weights
    apart = sum((weight * norm(change)) ** 2 for change, weight in zip(changes, weights, strict=True))
    return norm(joined(changes, weights)) ** 2 / apart if apart else 1.0


def _products(first: Factors, second: Factors) -> torch.Tensor:
    """Return the (r1, r2) terms that sum up to <dW1, dW2>."""
    return (first[0].double().t() @ second[0].double()) * (first[1].double() @ second[1].double().t())


def _core(change: Factors) -> torch.Tensor:
    """Return R_up · R_down.T in fp64: a small matrix with the singular values of dW."""
    cores = [torch.linalg.qr(factor.double(), mode="r").R for factor in (change[0], change[1].t())]
    return cores[0] @ cores[1].t()
