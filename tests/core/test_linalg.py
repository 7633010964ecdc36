"""Low-rank approximations against the singular values of fp64 LAPACK."""

from __future__ import annotations

import pytest
import torch

from lora_core.linalg import EXACT_SIDE, LowRank, low_rank

SIDE = 768  # above EXACT_SIDE, so that the Krylov search runs
NEAR_OPTIMAL = 1.01  # of the smallest error that any matrix of that rank has


def matrix(spectrum: torch.Tensor, shape: tuple[int, int], seed: int = 0) -> torch.Tensor:
    """Return a matrix of this shape with these singular values."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.linalg.qr(torch.randn(n, len(spectrum), generator=generator).double())[0] for n in shape)
    return ((left * spectrum.double()) @ right.t()).float()


def error(found: LowRank, of: torch.Tensor) -> float:
    return float((of.double() - found.up.double() @ found.down.double()).norm())


def optimum(of: torch.Tensor, rank: int) -> float:
    return float(torch.linalg.svdvals(of.double())[rank:].square().sum().sqrt())


INDEX = torch.arange(1, SIDE + 1)
SPECTRA = {
    "slow decay": INDEX**-0.5,
    "decay": 1.0 / INDEX,
    "exponential": 0.97**INDEX + 1e-3,
    "rank 24 and noise": torch.where(INDEX <= 24, 1.0, 0.01),
}


@pytest.mark.parametrize("rank", [16, 64])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_krylov_is_near_the_optimum(spectrum: str, rank: int) -> None:
    assert SIDE > EXACT_SIDE
    of = matrix(SPECTRA[spectrum], (SIDE, SIDE))
    found = low_rank(of, rank=rank)
    assert error(found, of) <= NEAR_OPTIMAL * optimum(of, rank)


def test_krylov_on_white_noise() -> None:
    """The hard case: no singular value stands out."""
    of = torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    assert error(low_rank(of, rank=32), of) <= NEAR_OPTIMAL * optimum(of, 32)


@pytest.mark.parametrize("shape", [(40, 96), (96, 40), (64, 64), (1, 7), (SIDE, 2 * SIDE), (2 * SIDE, SIDE)])
def test_energy_and_norm_are_those_of_the_factors(shape: tuple[int, int]) -> None:
    of = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    found = low_rank(of, rank=8)
    rank = min(8, *shape)
    assert (found.up.shape, found.down.shape) == ((shape[0], rank), (rank, shape[1]))
    assert found.norm == pytest.approx(float(of.double().norm()), rel=1e-6)
    kept = 1 - (error(found, of) / found.norm) ** 2
    assert found.energy == pytest.approx(kept, abs=1e-6)  # fp32 factors
    columns, rows = found.up.double().square().sum(0), found.down.double().square().sum(1)
    assert torch.allclose(columns, rows, rtol=1e-4), "the root of every singular value is on both sides"


@pytest.mark.parametrize("side", [96, SIDE])
def test_smallest_rank_that_keeps_the_energy(side: int) -> None:
    squares = torch.tensor([8.0, 4.0, 2.0, 1.0])
    of = matrix(squares.sqrt(), (side, side + 32))
    for energy, rank in ((0.5, 1), (0.55, 2), (0.79, 2), (0.9, 3), (0.94, 4), (0.9999, 4)):
        found = low_rank(of, rank=32, energy=energy)
        assert found.up.shape[1] == rank
        assert found.energy >= energy - 1e-6
    assert low_rank(of, rank=2, energy=0.99).up.shape[1] == 2, "the limit comes first"


def test_exact_at_full_rank() -> None:
    of = torch.randn(48, 80, generator=torch.Generator().manual_seed(3))
    assert error(low_rank(of, rank=48), of) < 1e-5 * float(of.norm())


def test_steep_spectrum_keeps_its_small_values() -> None:
    of = matrix(10.0 ** -torch.arange(7.0), (64, 64))
    assert error(low_rank(of, rank=5), of) <= 1.02 * optimum(of, 5)  # 1e-5 of the largest is near fp32's end


def test_the_same_matrix_gives_the_same_factors() -> None:
    of = matrix(SPECTRA["decay"], (SIDE, SIDE))
    first, second = low_rank(of, rank=16), low_rank(of, rank=16)
    assert torch.equal(first.up, second.up)
    assert torch.equal(first.down, second.down)


def test_the_matrix_is_not_changed() -> None:
    of = torch.randn(32, 32, generator=torch.Generator().manual_seed(4))
    before = of.clone()
    low_rank(of, rank=4)
    assert torch.equal(of, before)
