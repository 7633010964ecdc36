"""Singular values and the error that is certified, against spectra that are known and fp64 LAPACK."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from lora_core.algebra.krylov import Task, searched
from lora_core.algebra.svd import GRAM_SIDE, Svd, svd_of_dense, svd_of_product

ROUNDING = 1e-6  # of ‖A‖: vectors in fp32 are off by 6e-8 each
SIDE = 320
PROMISED = 0.01  # the most that a search may be above the least error, as the README says


def spectra(side: int) -> dict[str, torch.Tensor]:
    """Return those on which the method was chosen, largest value 1: steep, gentle, noise, steps and none at all."""
    place = torch.arange(1, side + 1).double()
    generator = torch.Generator().manual_seed(5)
    square, wide = (torch.randn(side, factor * side, generator=generator).double() for factor in (1, 4))
    noise, flatter = (torch.linalg.svdvals(one) for one in (square, wide))
    noise = noise / noise[0]
    found = {f"power {exponent}": place**-exponent for exponent in (0.1, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0)}
    found |= {"exponential": 0.97**place + 1e-3, "steep": torch.exp(-place / 5) + 1e-4, "slow": torch.exp(-place / 50)}
    for rank, amount in ((48, 1.0), (48, 0.1), (8, 0.1), (20, 0.5)):
        signal = torch.where(place <= rank, 2 - place / rank, 0.0)
        found[f"rank {rank} and noise of {amount}"] = (signal**2 + (amount * noise) ** 2).sqrt()
    found |= {"noise": noise, "flatter noise": flatter, "flat": torch.ones(side).double()}
    return {name: values.sort(descending=True).values / values.max() for name, values in found.items()}


SPECTRA = spectra(SIDE)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small matrices wait longer for each other's threads than they take."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def matrix(spectrum: torch.Tensor, shape: tuple[int, int], seed: int = 0) -> torch.Tensor:
    """Return an fp32 matrix of this shape with these singular values: a diagonal one, mirrored eight times a side."""
    of = torch.zeros(shape, dtype=torch.float64)
    of.diagonal()[: len(spectrum)] = spectrum
    generator = torch.Generator().manual_seed(seed)
    for _ in range(8):
        left, right = (
            torch.nn.functional.normalize(torch.randn(size, generator=generator).double(), dim=0) for size in shape
        )
        of -= 2 * torch.outer(left, left @ of)
        of -= 2 * torch.outer(of @ right, right)
    return of.float()


def dense(found: Svd, rank: int | None = None) -> torch.Tensor:
    up, down = found.factors(len(found.values) if rank is None else rank)
    return up.double() @ down.double()


def error(found: Svd, of: torch.Tensor, rank: int | None = None) -> float:
    return float((of.double() - dense(found, rank)).norm())


# Dense matrices: the certificate


@pytest.mark.case(44)
@pytest.mark.parametrize("rank", [8, 16])
@pytest.mark.parametrize("name", SPECTRA)
def test_the_error_is_within_the_certificate_for_ten_seeds(name: str, rank: int) -> None:
    """Random vectors look alike from every orthonormal basis, so a diagonal matrix has the law of all others."""
    values = SPECTRA[name].float()
    of, squares = torch.diag(values), values.double().square()
    optimum = float(squares[rank:].sum().sqrt())
    for seed in range(10):
        found = searched(of, Task(rank, 0.0, float(squares.sum()), seed, lambda: None))
        assert found is not None, "found without decomposing the whole"
        left, sigma, right, _, excess = found
        away = float((of.double() - (left.float().double() * sigma) @ right.float().double()).norm())
        assert 0 <= excess <= PROMISED
        assert away <= (1 + excess) * optimum + ROUNDING * float(squares.sum().sqrt())


@pytest.mark.parametrize("energy", [0.0, 0.99])
def test_equal_singular_values_are_all_found(energy: float) -> None:
    """A space holds no more of them than its blocks have columns, and further blocks gain nothing to tell it by."""
    place = torch.arange(1, 481).double()
    values = torch.where(place <= 38, 1.0, 0.03 * place**-0.5)
    of = torch.diag(values.float())
    for seed in range(3):
        found = svd_of_dense(of, 40, energy=energy, seed=seed)
        optimum = float(values[len(found.values) :].norm())
        assert len(found.values) == (38 if energy else 40)
        assert error(found, of) <= (1 + found.excess) * optimum + ROUNDING * found.total**0.5


@pytest.mark.parametrize("shape", [(SIDE, SIDE), (SIDE, 2 * SIDE), (2 * SIDE, SIDE)])
@pytest.mark.parametrize("name", SPECTRA)
def test_dense_matrices_at_the_rank_and_below_it(name: str, shape: tuple[int, int]) -> None:
    of, squares = matrix(SPECTRA[name], shape), SPECTRA[name].square()
    found = svd_of_dense(of, 24)
    assert found.excess <= PROMISED
    assert found.total == pytest.approx(float(squares.sum()), rel=1e-6)
    assert (found.left.shape, found.right.shape) == ((shape[0], 24), (24, shape[1]))
    for rank in (1, 10, 24):
        optimum = float(squares[rank:].sum().sqrt())
        assert error(found, of, rank) <= (1 + found.excess) * optimum + ROUNDING * found.total**0.5
        assert found.energy(rank) <= float(squares[:rank].sum() / squares.sum()) + 1e-6


@pytest.mark.parametrize("name", SPECTRA)
def test_what_is_said_of_the_error_is_true(name: str) -> None:
    """Also where nearly all is kept: energy is 1 − error² / total, and must not be rounded away in fp32."""
    of = matrix(SPECTRA[name], (SIDE, SIDE))
    found = svd_of_dense(of, 16)
    away = error(found, of)
    assert (1 - found.energy(16)) * found.total == pytest.approx(away**2, rel=1e-3, abs=(ROUNDING**2) * found.total)


def test_it_takes_few_steps() -> None:
    """A step is two products with the matrix; the count is the cost."""
    steps = {name: count_steps(SPECTRA[name], 16) for name in ("power 0.5", "power 1.0", "noise", "steep")}
    assert steps["power 0.5"] <= 3
    assert steps["power 1.0"] <= 3
    assert steps["steep"] <= 3
    assert steps["noise"] <= 4


def count_steps(values: torch.Tensor, rank: int) -> int:
    steps: list[None] = []
    svd_of_dense(matrix(values, (SIDE, SIDE)), rank, on_step=lambda: steps.append(None))
    return len(steps)


@pytest.mark.parametrize("rank", [16, 200])
def test_it_can_be_cancelled_between_steps(rank: int) -> None:
    def cancel() -> None:
        steps.append(None)
        if len(steps) == 2:
            raise KeyboardInterrupt

    steps: list[None] = []
    with pytest.raises(KeyboardInterrupt):
        svd_of_dense(matrix(SPECTRA["power 0.5"], (SIDE, SIDE)), rank, on_step=cancel)


@pytest.mark.parametrize(("shape", "rank"), [((40, 96), 8), ((96, 40), 40), ((1, 7), 3), ((7, 1), 1), ((90, 90), 30)])
def test_small_matrices_and_high_ranks_are_exact(shape: tuple[int, int], rank: int) -> None:
    of = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    found = svd_of_dense(of, rank)
    kept = min(rank, *shape)
    left, values, right = torch.linalg.svd(of.double(), full_matrices=False)
    assert found.excess == 0
    assert torch.allclose(found.values, values[:kept], rtol=0, atol=1e-8 * float(values[0]))
    best = (left[:, :kept] * values[:kept]) @ right[:kept]
    assert float((dense(found) - best).norm()) <= ROUNDING * float(values.norm())


def test_what_can_not_be_certified_is_decomposed_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_core.algebra.krylov.CERTIFIED", -1.0)
    found = svd_of_dense(matrix(SPECTRA["power 0.5"], (SIDE, SIDE)), 16)
    assert found.excess == 0
    assert torch.allclose(found.values, SPECTRA["power 0.5"][:16], rtol=0, atol=1e-6)  # the matrix is in fp32


def test_steep_spectra_keep_their_small_values() -> None:
    values = 10.0 ** -torch.arange(7.0).double()
    of = matrix(values, (64, 64))
    optimum = float(values[5:].norm())
    assert error(svd_of_dense(of, 5), of) <= 1.02 * optimum  # 1e-5 of the largest is near fp32's end


# Dense matrices: the rank that keeps an energy


@pytest.mark.parametrize("side", [96, SIDE])
def test_the_smallest_rank_that_keeps_the_energy(side: int) -> None:
    of = matrix(torch.tensor([8.0, 4.0, 2.0, 1.0]).double().sqrt(), (side, side + 32))
    for energy, rank in ((0.5, 1), (0.55, 2), (0.79, 2), (0.9, 3), (0.94, 4), (0.9999, 4), (1.0, 4)):
        found = svd_of_dense(of, 32, energy=energy)
        assert len(found.values) == rank
        assert found.energy(rank) >= energy - 1e-6
    assert len(svd_of_dense(of, 2, energy=0.99).values) == 2, "the limit comes first"


@pytest.mark.parametrize("energy", [0.3, 0.6, 0.8])
@pytest.mark.parametrize("name", ["power 0.5", "power 1.0", "exponential", "slow", "rank 20 and noise of 0.5", "noise"])
def test_the_rank_of_an_energy_is_found_by_growing(name: str, energy: float) -> None:
    """At most what an optimum with 2 % more of the remaining squares would need: that is what 1 % of error is."""
    of, squares = matrix(SPECTRA[name], (SIDE, SIDE)), SPECTRA[name].square()
    found = svd_of_dense(of, 48, energy=energy)
    shares = squares.cumsum(0) / squares.sum()
    least = int((shares < energy).sum()) + 1
    most = int((shares < energy + 0.0201 * (1 - energy)).sum()) + 1
    assert min(48, least) <= len(found.values) <= min(48, most)
    assert found.energy(48) >= energy or len(found.values) == 48
    optimum = float(squares[len(found.values) :].sum().sqrt())
    assert error(found, of) <= (1 + found.excess) * optimum + ROUNDING * found.total**0.5


# Dense matrices: seeds, threads, scales


def test_a_seed_gives_the_same_numbers_and_threads_change_only_their_rounding() -> None:
    of = matrix(SPECTRA["power 0.5"], (SIDE, 2 * SIDE))
    found: list[Svd] = []
    for number in (1, 1, 2):
        torch.set_num_threads(number)
        found.append(svd_of_dense(of, 16, seed=3))
    for part in ("left", "values", "right"):
        assert torch.equal(getattr(found[0], part), getattr(found[1], part))
    # sums in another order differ by 1e-7, which a gap of 3 % between σ₁₆² and σ₁₇² turns into 1e-5 of the factors
    assert float((dense(found[0]) - dense(found[2])).norm()) <= 1e-4 * found[0].total ** 0.5
    assert torch.allclose(found[0].values, found[2].values, rtol=1e-6)
    assert not torch.equal(found[0].left, svd_of_dense(of, 16, seed=4).left)


@pytest.mark.parametrize("scale", [1e-24, 1e-6, 1e4, 1e24])
@pytest.mark.parametrize("rank", [16, 150])
def test_scales_do_not_matter(scale: float, rank: int) -> None:
    of = matrix(SPECTRA["power 1.0"], (SIDE, SIDE))
    found, scaled = svd_of_dense(of, rank), svd_of_dense(of * scale, rank)
    assert torch.allclose(scaled.values / scale, found.values, rtol=1e-4)
    assert scaled.excess == pytest.approx(found.excess, abs=1e-4)
    assert scaled.total == pytest.approx(found.total * scale**2, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_read_as_they_are(dtype: torch.dtype) -> None:
    of = matrix(SPECTRA["power 1.0"], (SIDE, SIDE)).to(dtype)
    before = of.clone()
    found, same = svd_of_dense(of, 8), svd_of_dense(of.float(), 8)
    assert torch.equal(of, before), "the matrix is not changed"
    assert (found.left.dtype, found.values.dtype, found.right.dtype) == (torch.float32, torch.float64, torch.float32)
    assert torch.allclose(found.values, same.values)


@pytest.mark.parametrize("rank", [2, 16])
def test_exact_ranks_and_zeros(rank: int) -> None:
    nothing = svd_of_dense(torch.zeros(200, 300), rank)
    assert (nothing.total, nothing.energy(rank), len(nothing.values)) == (0.0, 1.0, 0)
    assert (nothing.left.shape, nothing.right.shape) == ((200, 0), (0, 300))
    assert [part.shape for part in nothing.factors(rank)] == [(200, 0), (0, 300)]
    one = torch.zeros(200, 300)
    one[3, 4] = 2.0
    assert svd_of_dense(one, rank).values.tolist() == pytest.approx([2.0])
    assert error(svd_of_dense(one, rank), one) <= ROUNDING
    five = matrix(torch.ones(5).double(), (SIDE, SIDE))
    assert error(svd_of_dense(five, max(5, rank)), five) <= ROUNDING * 5


# Products


def factors(m: int, n: int, rank: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(m, rank, generator=generator), torch.randn(rank, n, generator=generator)


def ill_conditioned(size: int, rank: int, condition: float, seed: int) -> torch.Tensor:
    steps = torch.linspace(0, 1, rank).double()
    up = matrix(condition**-steps, (size, rank), seed)
    return up @ matrix(torch.ones(rank).double(), (rank, rank), seed + 1)


def check_product(up: torch.Tensor, down: torch.Tensor) -> Svd:
    """Compare with fp64 LAPACK: values to 1e-6 of the largest, errors at every rank with the optimum."""
    whole = up.double() @ down.double()
    expected = torch.linalg.svdvals(whole)
    found = svd_of_product(up, down)
    known = len(found.values)
    assert known <= min(*whole.shape, up.shape[1])
    assert torch.allclose(found.values, expected[:known], rtol=0, atol=1e-6 * float(expected[0]))
    assert not (expected[known:] > 1e-6 * expected[0]).any()
    assert found.total == pytest.approx(float(whole.square().sum()), rel=1e-6)
    for rank in {1, known // 2, known} - {0}:
        optimum = float(expected[rank:].norm())
        assert error(found, whole, rank) <= (1 + 1e-5) * optimum + ROUNDING * float(expected.norm())
    for side in (found.left, found.right.t()):
        strong = found.values > 1e-4 * found.values[0]
        assert float((side.t() @ side - torch.eye(known))[strong][:, strong].abs().max()) <= 1e-5, "orthonormal"
    return found


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("sizes", [(60, 40, 8), (40, 60, 40), (30, 20, 50), (200, 10, 32), (12, 300, 16), (1, 9, 3)])
def test_products_are_exact(sizes: tuple[int, int, int], scale: float) -> None:
    up, down = factors(*sizes)
    check_product(up * scale, down)


@pytest.mark.parametrize("sizes", [(400, 420, 300), (270, 300, 500), (500, 270, 280)])
def test_products_of_high_ranks_are_exact(sizes: tuple[int, int, int]) -> None:
    assert min(sizes) > GRAM_SIDE
    check_product(*factors(*sizes))


@pytest.mark.parametrize("condition", [1e2, 1e5, 1e8, 1e11])
def test_ill_conditioned_factors_are_exact(condition: float) -> None:
    """Also where large factors nearly cancel: the small change is what counts."""
    up, down = ill_conditioned(80, 12, condition, 0), ill_conditioned(60, 12, condition, 2).t()
    check_product(up, down)
    inverse = torch.linalg.pinv(up.double())
    small = torch.randn(12, 60, generator=torch.Generator().manual_seed(9)).double()
    check_product(up.double(), inverse[:, :12] @ inverse[:, :12].t() @ small)


def test_factors_without_full_rank_are_exact() -> None:
    up, down = factors(50, 40, 6)
    twice = check_product(torch.cat([up, up], dim=1), torch.cat([down, 2 * down]))
    assert len(twice.values) == 6
    up[:, 2], down[4] = 0.0, 0.0
    assert len(check_product(up, down).values) == 4
    none = svd_of_product(torch.zeros(9, 3), torch.randn(3, 8))
    assert (len(none.values), none.total, none.energy(2)) == (0, 0.0, 1.0)
    assert (none.left.shape, none.right.shape) == ((9, 0), (0, 8))


def test_only_the_vectors_that_are_asked_for() -> None:
    up, down = factors(90, 70, 20)
    whole, some = svd_of_product(up, down), svd_of_product(up, down, 5)
    assert torch.equal(some.values, whole.values)
    assert (some.left.shape, some.right.shape) == ((90, 5), (5, 70))
    for part, same in zip(some.factors(5), whole.factors(5), strict=True):
        assert torch.allclose(part, same, rtol=1e-5, atol=1e-6)
    assert some.factors(9)[0].shape == (90, 5), "there are no more"


def test_a_product_is_never_formed() -> None:
    found = svd_of_product(*factors(300_000, 200_000, 2))  # 240 GB as a matrix
    assert len(found.values) == 2


def test_tall_factors_go_without_householder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick way is taken where it is safe, and only there."""
    calls: list[tuple[int, ...]] = []
    real = torch.linalg.qr
    monkeypatch.setattr(torch.linalg, "qr", lambda factor: calls.append(tuple(factor.shape)) or real(factor))
    svd_of_product(*factors(200, 100, 8))
    assert calls == []
    up, down = factors(200, 100, 8)
    svd_of_product(up * torch.logspace(-8, 8, 8), down)
    assert calls == [], "columns of different sizes are no reason"
    svd_of_product(ill_conditioned(200, 8, 1e6, 0), down)
    assert calls == [(200, 8)]


def test_the_root_of_every_value_is_on_both_sides() -> None:
    for found in (svd_of_product(*factors(60, 90, 10)), svd_of_dense(factors(60, 90, 60)[0], 10)):
        up, down = (part.double() for part in found.factors(10))
        assert torch.allclose(up.t() @ up, torch.diag(found.values), atol=1e-5 * float(found.values[0]))
        assert torch.allclose(down @ down.t(), torch.diag(found.values), atol=1e-5 * float(found.values[0]))
