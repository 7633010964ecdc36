"""The space in which the largest singular values of a matrix are searched: [WG, (W·W.T)WG, (W·W.T)²WG, …].

A block Lanczos method with full reorthogonalisation (Golub, Luk & Overton 1981; its error: Musco & Musco 2015,
arXiv:1504.05477). What projects the matrix is also the next block's half step, so a block costs two products with W.
W is multiplied in fp32; the basis is separated and everything is summed in fp64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from ..lazytorch import torch

CERTIFIED = 0.01  # how far above the least possible error a search may stop
GAIN_FACTOR, GAIN_MARGIN = 1.05, 0.002  # what is still to gain: 1.05 · the last gain + 0.2 % of the squared error
SMALL_SIDE = 256  # up to which the whole is decomposed in a few milliseconds
OVERSAMPLING = 8  # columns of a block beyond the rank, at least
FIRST_AIM = 32  # rank for which a search begins that has only an energy to reach
MOST_OFTEN = 3  # blocks that a search takes; from there on, vectors are likely to be asked for
NEGLIGIBLE = 1e-7  # of sigma1: the rounding of fp32, which the factors are kept in
MEASURED = 1e-4  # a share of |W|² below this is measured, not found as a difference: products in fp32 are too rough


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked of a decomposition."""

    rank: int  # the highest that is wanted
    energy: float  # the share of |W|² that is enough before that; 0 for the rank itself
    total: float  # |W|_F², above 0
    seed: int
    on_step: Callable[[], None]

    def rank_of(self, squares: torch.Tensor, rest: float) -> int:
        """Return the smallest rank whose error² `energy` allows, or the highest, if sigma² are these and a rest."""
        if not self.energy:
            return self.rank
        allowed = max(1.0 - self.energy, NEGLIGIBLE**2) * self.total
        errors = squares.flip(0).cumsum(0).flip(0) + rest  # of one rank less than its place, from the smallest up
        return max(1, min(self.rank, int((errors > allowed).sum()) if rest <= allowed else self.rank))


Found: TypeAlias = "tuple[torch.Tensor, torch.Tensor, torch.Tensor, float, float]"
# left (d, k), sigma (k,), right (k, D), |W|_F² as the sum of sigma² and of what was measured beyond, excess


def searched(short: torch.Tensor, task: Task) -> Found | None:
    """Return what a Krylov space holds once its error is certified; None where the exact way is the better one.

    A block has more columns than the rank: of sigma that are equal, a space finds no more than it has columns. Where an
    `energy` is asked for, the rank is not known, so the search starts anew with wider blocks if it turns out higher.
    """
    aim = min(task.rank, FIRST_AIM) if task.energy else task.rank
    while len(short) > SMALL_SIDE and 5 * _block(aim) <= len(short):
        found = _grown(short, task, _block(aim))
        if not isinstance(found, int):
            return found
        aim = min(task.rank, max(2 * aim, found))
    return None


def _block(rank: int) -> int:
    """Return half as many columns again, in multiples of 16: what processors multiply best."""
    return 16 * -(-max(rank + OVERSAMPLING, 3 * rank // 2) // 16)


def _grown(short: torch.Tensor, task: Task, block: int) -> Found | int | None:
    """Return what a space of this block holds; a rank that it is too narrow for, or None if it was not certified."""
    space = KrylovSpace(short, task.total, block, task.seed)
    steps: list[tuple[torch.Tensor, float]] = []
    while 4 * (space.basis.shape[1] + block) <= 3 * len(short):
        task.on_step()
        space.grow()
        steps.append((space.squares(), space.rest()))
        squares, rest = steps[-1]
        rank = task.rank_of(squares, rest)
        if len(steps) > 1 and rank + OVERSAMPLING > block:
            return min(rank, len(squares))
        excess = _excess(steps, rank, task.total)
        if excess <= CERTIFIED and rank + OVERSAMPLING <= block:
            left, values, right = space.vectors(rank)
            kept = int((values > NEGLIGIBLE * values[0]).sum())
            return left[:, :kept], values[:kept], right[:kept], float(squares.sum()) + rest, excess
    return None


def _excess(steps: list[tuple[torch.Tensor, float]], rank: int, total: float) -> float:
    """Return by how much the error at `rank` may be above the optimum, as a share of it; at lower ranks it is less.

    Proved: optimum² is at least the sum of the Ritz values beyond `rank`, as these are no larger than sigma² of their
    place. Verified, on the spectra of the decision page: from the third block on, what all further ones would gain is
    no more than the last one gained, give or take GAIN_MARGIN of the error².
    """
    squares, rest = steps[-1]
    least = float(squares[rank:].sum())
    error = least + rest
    if error <= (10 * NEGLIGIBLE) ** 2 * total:
        return 0.0  # fp32 holds no more
    if len(steps) >= 3:
        squares, rest = steps[-2]
        gain = max(0.0, float(squares[rank:].sum()) + rest - error)
        least = max(least, error * (1 - GAIN_MARGIN) - GAIN_FACTOR * gain)
    return (error / least) ** 0.5 - 1 if least > 0 else float("inf")


class KrylovSpace:
    """An orthonormal basis Q (d, b·i) that `grow` widens by a block, and the projection Q.T·W."""

    def __init__(self, short: torch.Tensor, total: float, block: int, seed: int) -> None:
        """Start with b = `block` random columns for W = `short` (d, D) in fp32, d <= D, of which total = |W|_F² > 0."""
        self.short, self.total = short, total
        generator = torch.Generator().manual_seed(seed)  # on the CPU, so that every device draws the same
        start = torch.randn(block, short.shape[1], generator=generator).to(short.device)
        self._scale = total**-0.5  # keeps squares of the smallest and largest numbers within fp32
        self._half = start  # the last block of the projection, in fp32: half a step to the next block of the basis
        self.basis = torch.zeros(short.shape[0], 0, dtype=torch.float64, device=short.device)
        self.projected = torch.zeros(0, short.shape[1], dtype=torch.float64, device=short.device)
        self._gram = torch.zeros(0, 0, dtype=torch.float64, device=short.device)
        self._turned = self._gram  # its eigenvectors, once they were needed

    def grow(self) -> None:
        """Add a block to the basis."""
        block = self._separated(self.short @ (self._half.t() * self._scale))
        self._half = block.t().float() @ self.short
        self.basis = torch.cat([self.basis, block], dim=1)
        new = self._half.double()
        self.projected = torch.cat([self.projected, new])
        side = new @ self.projected.t()
        above = torch.cat([self._gram, side[:, : len(self._gram)].t()], dim=1)
        self._gram = torch.cat([above, side])

    def squares(self) -> torch.Tensor:
        """Return the Ritz values r² <= sigma², largest first, on the CPU."""
        if len(self._gram) < MOST_OFTEN * len(self._half):
            squares = torch.linalg.eigvalsh(self._gram)
        else:
            squares, self._turned = torch.linalg.eigh(self._gram)
        return squares.flip(0).clamp_min(0.0).cpu()

    def rest(self) -> float:
        """Return |W - Q·Q.T·W|_F², what no factors in this space can hold."""
        rest = self.total - float(self._gram.diagonal().sum())
        if rest > MEASURED * self.total:
            return rest
        outside = torch.addmm(self.short, self.basis.float(), self.projected.float(), alpha=-1.0)
        return squared_norm(outside)

    def vectors(self, rank: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the first `rank` (left (d, rank), r (rank,), right (rank, D)), all in fp64."""
        known = len(self._turned) == len(self._gram)
        turned = (self._turned if known else torch.linalg.eigh(self._gram).eigenvectors).flip(1)[:, :rank]
        right = turned.t() @ self.projected
        values = torch.linalg.vector_norm(right, dim=1)
        return self.basis @ turned, values, right / torch.where(values > 0, values, 1.0)[:, None]

    def _separated(self, block: torch.Tensor) -> torch.Tensor:
        """Return an orthonormal basis in fp64 of what `block` adds to the basis.

        Roughly in fp32 first, then again in fp64: what is separated once keeps rounding errors, twice is enough.
        """
        basis = self.basis.float()
        rough = orthonormal((block - basis @ (basis.t() @ block)).double())
        return orthonormal(rough - self.basis @ (self.basis.t() @ rough))


def orthonormal(block: torch.Tensor) -> torch.Tensor:
    """Return an orthonormal basis (d, b) of the columns of a tall fp64 block: Cholesky QR, or Householder's where
    the columns are too alike for it. Accurate only when applied twice (Yamamoto et al. 2015)."""
    factor, failed = torch.linalg.cholesky_ex(block.t() @ block, upper=True)
    diagonal = factor.diagonal()
    if int(failed) or float(diagonal.min()) < 1e-6 * float(diagonal.max()):
        return torch.linalg.qr(block)[0]
    return torch.linalg.solve_triangular(factor, block, upper=True, left=False)


def squared_norm(matrix: torch.Tensor) -> float:
    """Return |matrix|_F², summed in fp64; on a CPU in pieces that stay in its cache."""
    rows = max(1, 2**16 // max(1, matrix.shape[1])) if matrix.device.type == "cpu" else len(matrix)
    # as plain numbers: small tensors that live on would split the room of each piece, and the next would take more
    norms = [float(torch.linalg.vector_norm(piece, dtype=torch.float64)) for piece in matrix.split(max(1, rows))]
    return math.fsum(norm * norm for norm in norms)
