"""Low-rank approximation of a dense change."""

from __future__ import annotations

from dataclasses import dataclass

from .lazytorch import torch


@dataclass(frozen=True, slots=True)
class LowRank:
    """The best approximation of a matrix at some rank, √S on both factors."""

    up: torch.Tensor  # (m, r) fp32
    down: torch.Tensor  # (r, n) fp32
    energy: float  # Σ_{i≤r} σᵢ² / ‖A‖_F²
    norm: float  # ‖A‖_F
    singular_values: torch.Tensor  # (min(m, n),) fp64, all of them


def low_rank(matrix: torch.Tensor, *, rank: int, energy: float = 0.0) -> LowRank:
    """Return the best approximation of `matrix` (m, n) at `rank`, or at the smallest rank that keeps `energy`.

    `energy` is a share of ‖matrix‖_F²; `rank` then is the upper limit. The singular vectors of the shorter side come
    from the Gram matrix in fp64, which is exact to σ ≥ 1e-8·σ₁, far below what a file's fp16 can hold, and costs a
    fraction of the full SVD (ALGORITHMS: eigh of the Gram matrix).
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    short = (matrix if wide else matrix.t()).double()  # (d, D) with d ≤ D
    values, vectors = torch.linalg.eigh(short @ short.t())
    squares = values.flip(0).clamp_min(0.0)
    total = float(squares.sum())
    kept = min(rank, len(squares))
    if energy > 0 and total > 0:
        enough = torch.searchsorted(squares.cumsum(0), energy * total)
        kept = min(kept, int(enough) + 1)
    basis = vectors.flip(1)[:, :kept]
    sigma = squares[:kept].sqrt()
    root = sigma.sqrt()
    # other = basisᵀ·A = S·Vᵀ, so dividing its rows by √S leaves √S there; a zero σ has a zero row
    other = (basis.t() @ short) / torch.where(root > 0, root, 1.0)[:, None]
    first, second = (basis * root).float(), other.float()
    up, down = (first, second) if wide else (second.t(), first.t())
    share = float(squares[:kept].sum()) / total if total > 0 else 1.0
    return LowRank(up.contiguous(), down.contiguous(), share, total**0.5, squares.sqrt())
