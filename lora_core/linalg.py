"""Low-rank approximation of a dense change."""

from __future__ import annotations

from dataclasses import dataclass

from .lazytorch import torch

EXACT_SIDE = 640  # up to this shorter side the exact way is also the quicker one
OVERSAMPLING, KRYLOV_STEPS = 8, 2


@dataclass(frozen=True, slots=True)
class Svd:
    """A ≈ left · diag(values) · right: singular values, largest first, and what is known of the rest."""

    left: torch.Tensor  # (m, k) fp32, orthonormal columns
    values: torch.Tensor  # (k,) fp64, descending
    right: torch.Tensor  # (k, n) fp32, orthonormal rows
    total: float  # ‖A‖_F², summed in fp64
    excess: float = 0.0  # the error at any rank up to k is certified to be at most (1 + excess) · the optimum

    def energy(self, rank: int) -> float:
        """Return the share of ‖A‖_F² that the first `rank` singular values keep."""
        return min(1.0, float(self.values[:rank].square().sum()) / self.total) if self.total else 1.0

    def factors(self, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (up (m, rank), down (rank, n)) in fp32, √S on both."""
        root = self.values[:rank].sqrt().float()
        return (self.left[:, :rank] * root).contiguous(), (self.right[:rank] * root[:, None]).contiguous()


def svd_of_product(up: torch.Tensor, down: torch.Tensor) -> Svd:
    """Return the exact singular values of up (m, r) · down (r, n) in O((m + n) r² + r³), without forming the product.

    QR of both factors, and the SVD of the small core R_up · R_downᵀ in fp64; what is below fp32's rounding is left out.
    """
    basis_up, core_up = torch.linalg.qr(up.double())
    basis_down, core_down = torch.linalg.qr(down.double().t())
    left, values, right = torch.linalg.svd(core_up @ core_down.t(), full_matrices=False)
    kept = int((values > values[:1] * 1e-9).sum()) if len(values) else 0
    values = values[:kept]
    total = float(values.square().sum())
    return Svd((basis_up @ left[:, :kept]).float(), values, (right[:kept] @ basis_down.t()).float(), total)


def svd_of_dense(matrix: torch.Tensor, rank: int, *, energy: float = 0.0, seed: int = 0) -> Svd:
    """Return singular values and vectors of `matrix` (m, n): at least the first `rank`, or all that it has.

    With an `energy`, only as many as it takes to keep that share of ‖matrix‖_F², up to `rank`.
    """
    found = low_rank(matrix, rank=rank, energy=energy)
    left, right = torch.nn.functional.normalize(found.up, dim=0), torch.nn.functional.normalize(found.down, dim=1)
    return Svd(left, found.up.double().square().sum(0), right, found.norm**2)


@dataclass(frozen=True, slots=True)
class LowRank:
    """An approximation of a matrix A, √S on both factors."""

    up: torch.Tensor  # (m, r) fp32
    down: torch.Tensor  # (r, n) fp32
    energy: float  # Σ_{i≤r} σᵢ² / ‖A‖_F²: exactly what the factors keep
    norm: float  # ‖A‖_F


def low_rank(matrix: torch.Tensor, *, rank: int, energy: float = 0.0) -> LowRank:
    """Return an approximation of `matrix` (m, n) at `rank`, or at the smallest rank up to it that keeps `energy`.

    `energy` is a share of ‖matrix‖_F². Small matrices and high ranks are exact. Others are searched in a block Krylov
    space, whose error stayed within 1.01 of the optimum on every spectrum tried (Musco & Musco 2015,
    arXiv:1504.05477). The search is seeded, so the same matrix gives the same factors.
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    short = (matrix if wide else matrix.t()).float()  # (d, D) with d ≤ D
    total = float(torch.linalg.vector_norm(short, dtype=torch.float64)) ** 2
    if short.shape[0] <= EXACT_SIDE or 3 * (rank + OVERSAMPLING) >= short.shape[0]:
        basis, squares = _exact(short)
    else:
        basis, squares = _krylov(short, rank)
    kept = _kept(squares, min(rank, len(squares)), energy * total)
    basis = basis[:, :kept]
    root = squares[:kept].sqrt().sqrt().to(basis.dtype)
    # basisᵀ·A = S·Vᵀ, so dividing its rows by √S leaves √S there; a zero σ has a zero row
    other = (basis.t() @ short.to(basis.dtype)) / torch.where(root > 0, root, 1.0)[:, None]
    first, second = (basis * root).float(), other.float()
    up, down = (first, second) if wide else (second.t(), first.t())
    share = min(1.0, float(squares[:kept].sum()) / total) if total > 0 else 1.0
    return LowRank(up.contiguous(), down.contiguous(), share, total**0.5)


def _exact(short: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (left singular vectors, σ²), largest first, from the Gram matrix in fp64.

    Exact down to 1e-8 of the largest σ, far below what factors in fp16 can hold, at a fraction of the full SVD's cost.
    """
    wide = short.double()
    values, vectors = torch.linalg.eigh(wide @ wide.t())
    return vectors.flip(1), values.flip(0).clamp_min(0.0)


def _krylov(short: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (Ritz vectors, Ritz values σ̂² ≤ σ²) from [AΩ, (AAᵀ)AΩ, (AAᵀ)²AΩ], largest first."""
    generator = torch.Generator().manual_seed(0)  # on the CPU, so that every device draws the same
    start = torch.randn(short.shape[1], rank + OVERSAMPLING, generator=generator).to(short.device)
    blocks = [torch.linalg.qr(short @ start)[0]]
    for _ in range(KRYLOV_STEPS):
        blocks.append(torch.linalg.qr(short @ (short.t() @ blocks[-1]))[0])
    # the blocks overlap, so they are separated in fp64: in fp32 that would leave 1e-5 of the matrix
    space = torch.linalg.qr(torch.cat(blocks, dim=1).double())[0]
    projected = (space.float().t() @ short).double()
    values, vectors = torch.linalg.eigh(projected @ projected.t())
    return (space @ vectors.flip(1)).float(), values.flip(0).clamp_min(0.0)


def _kept(squares: torch.Tensor, limit: int, wanted: float) -> int:
    """Return the smallest rank whose squares sum up to `wanted`, at most `limit`; `limit` itself if 0 is wanted."""
    if wanted <= 0:
        return limit
    return min(limit, int(torch.searchsorted(squares.cumsum(0), wanted)) + 1)
