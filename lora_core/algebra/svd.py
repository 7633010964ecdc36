"""Singular values and vectors of a change: exact from factors, within a hundredth of the optimum from a dense matrix.

The errors of both are known, not hoped for: docs/decisions/008-certified-rank.md says what is proved and what verified.
Callers check that numbers are finite; what comes of NaN or infinity here is an error of LAPACK's or nothing of use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..lazytorch import torch
from .krylov import NEGLIGIBLE, Found, Task, searched, squared_norm

EXACT_SIDE = 640  # up to this shorter side a whole SVD takes no longer than a tenth of a second
GRAM_SIDE = 256  # above it, the SVD of a core takes twice as long as eigh
WELL_CONDITIONED = 1e4  # of factors, for a Gram matrix in fp64 to leave their QR exact to 1e-8


@dataclass(frozen=True, slots=True)
class Svd:
    """A ~ left · diag(values) · right: singular values, largest first, and what is known of the rest."""

    left: torch.Tensor  # (m, k) fp32, orthonormal columns
    values: torch.Tensor  # (k,) fp64, largest first; more of them than vectors if only some vectors were asked for
    right: torch.Tensor  # (k, n) fp32, orthonormal rows
    total: float  # |A|_F², summed in fp64
    excess: float = 0.0  # the error at any rank up to k is certified to be at most (1 + excess) · the optimum

    def energy(self, rank: int) -> float:
        """Return the share of |A|_F² that the first `rank` singular values keep."""
        return min(1.0, float(self.values[:rank].square().sum()) / self.total) if self.total else 1.0

    def factors(self, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (up (m, rank), down (rank, n)) in fp32, sqrt(S) on both; of a lower rank if there is no more."""
        rank = min(rank, len(self.right))
        root = self.values[:rank].sqrt().float()
        return (self.left[:, :rank] * root).contiguous(), (self.right[:rank] * root[:, None]).contiguous()


def svd_of_product(up: torch.Tensor, down: torch.Tensor, rank: int | None = None) -> Svd:
    """Return the exact singular values of up (m, r) · down (r, n) in O((m + n) r² + r³), without forming the product.

    All values, and the vectors of the first `rank` of them, or of all. The core R_up · R_down.T of the two factors' QR
    is decomposed in fp64; the R come from Gram matrices where the factors' condition, which is measured, allows it.
    Values are exact to 1e-8 of sigma1, those below its 1e-9 (1e-7 at ranks above 256) are left out; vectors have the
    rounding of fp32.
    """
    first, second = _qr(up.double()), _qr(down.double().t())
    left, values, right = _svd_of_core(first.core @ second.core.t())
    asked = values[:rank]
    ends = first.lift(left[:, : len(asked)]), second.lift(right[: len(asked)].t()).t()
    return Svd(ends[0], values, ends[1], float(values.square().sum()))


def svd_of_dense(
    matrix: torch.Tensor,
    rank: int,
    *,
    energy: float = 0.0,
    seed: int = 0,
    on_step: Callable[[], None] | None = None,
) -> Svd:
    """Return the first `rank` singular values and vectors of `matrix` (m, n), fewer if the others are zero in fp32.

    With an `energy`, only as many as it takes to keep that share of |matrix|_F², up to `rank`. They are searched in a
    growing Krylov space, seeded by `seed`, until the error is certified to be within 1.01 of the optimum; small
    matrices, high ranks and what can't be certified are decomposed exactly. `on_step` is called in between and may
    raise to cancel.
    """
    total = squared_norm(matrix)
    if not total:
        return Svd(matrix.new_zeros(len(matrix), 0).float(), matrix.new_zeros(0).double(), matrix.float()[:0], 0.0)
    wide = matrix.shape[0] <= matrix.shape[1]
    short = (matrix if wide else matrix.t()).float()  # (d, D) with d <= D
    task = Task(min(rank, len(short)), energy, total, seed, on_step or (lambda: None))
    left, values, right, total, excess = searched(short, task) or _exact(short, task)
    left, right = (left, right) if wide else (right.t(), left.t())
    return Svd(left.float(), values, right.float(), total, excess)


def _exact(short: torch.Tensor, task: Task) -> Found:
    """Return singular values and vectors from the Gram matrix in fp64, at a fraction of the full SVD's cost.

    It is exact down to 1e-8 of sigma1, below which fp32 input holds nothing.
    """
    task.on_step()
    wide = short.double()
    gram = wide @ wide.t()
    task.on_step()
    squares, vectors = torch.linalg.eigh(gram)
    task.on_step()
    squares = squares.flip(0).clamp_min(0.0)
    rank = min(task.rank_of(squares, 0.0), int((squares > NEGLIGIBLE**2 * squares[0]).sum()))
    left, values = vectors.flip(1)[:, :rank], squares[:rank].sqrt()
    return left, values, (left.t() @ wide) / values[:, None], task.total, 0.0


@dataclass(frozen=True, slots=True)
class _Qr:
    """A tall factor (m, r) in fp64 as Q · core, Q = basis · turn with orthonormal columns."""

    core: torch.Tensor
    basis: torch.Tensor | None = None  # None for the identity
    turn: torch.Tensor | None = None

    def lift(self, columns: torch.Tensor) -> torch.Tensor:
        """Return Q · columns in fp32."""
        turned = columns if self.turn is None else self.turn @ columns
        return (turned if self.basis is None else self.basis @ turned).float()


def _qr(factor: torch.Tensor) -> _Qr:
    """Return the QR of a factor (m, r): by Cholesky where that keeps its digits, else by Householder."""
    if factor.shape[0] <= factor.shape[1]:
        return _Qr(factor)
    sizes = torch.linalg.vector_norm(factor, dim=0)
    scaled = factor / torch.where(sizes > 0, sizes, 1.0)  # Cholesky's errors do not depend on the columns' sizes
    core, failed = torch.linalg.cholesky_ex(scaled.t() @ scaled, upper=True)
    if not int(failed):
        one = torch.eye(len(core), dtype=core.dtype, device=core.device)
        inverse = torch.linalg.solve_triangular(core, one, upper=True)
        if float(core.norm() * inverse.norm()) <= WELL_CONDITIONED:  # no less than the condition number
            return _Qr(core * sizes, scaled, inverse)
    basis, core = torch.linalg.qr(factor)
    return _Qr(core, basis)


def _svd_of_core(core: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (left, values, right) without the values that are zero but for rounding; of its Gram matrix if large."""
    if core.shape[0] > core.shape[1]:
        left, values, right = _svd_of_core(core.t())
        return right.t(), values, left.t()
    if len(core) > GRAM_SIDE:
        squares, left = torch.linalg.eigh(core @ core.t())
        kept = int((squares > NEGLIGIBLE**2 * squares[-1:]).sum())
        values, left = squares.flip(0)[:kept].sqrt(), left.flip(1)[:, :kept]
        return left, values, (left.t() @ core) / values[:, None]
    left, values, right = torch.linalg.svd(core, full_matrices=False)
    kept = int((values > 1e-9 * values[:1]).sum())
    return left[:, :kept], values[:kept], right[:kept]
