"""What is computed from factors equals what fp64 algebra gives for the dense change."""

from __future__ import annotations

import math

import pytest
import torch

from lora_core.algebra import factored

# fp64 sums over fp32 factors, compared with fp64 sums over the dense matrix: 1e-6 leaves a wide margin
TOLERANCE = 1e-6
SHAPES = [(40, 24, 3, 5), (24, 40, 7, 7), (16, 16, 1, 20), (5, 60, 9, 4)]  # m, n, r₁, r₂; r above min(m, n) too


def factors(m: int, n: int, rank: int, seed: int, dtype: torch.dtype = torch.float32) -> factored.Factors:
    generator = torch.Generator().manual_seed(seed)
    up, down = torch.randn(m, rank, generator=generator), torch.randn(rank, n, generator=generator)
    return up.to(dtype), down.to(dtype)


def dense(change: factored.Factors) -> torch.Tensor:
    return change[0].double() @ change[1].double()


def bases(change: factored.Factors) -> tuple[torch.Tensor, torch.Tensor]:
    left, values, right = torch.linalg.svd(dense(change), full_matrices=False)
    rank = int((values > 1e-9 * values[0]).sum())
    return left[:, :rank], right[:rank].t()


@pytest.mark.case(44)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_sizes_and_likeness_are_those_of_the_dense_changes(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    m, n, r1, r2 = shape
    first, second = factors(m, n, r1, 0, dtype), factors(m, n, r2, 1, dtype)
    one, two = dense(first), dense(second)
    assert factored.norm(first) == pytest.approx(float(one.norm()), rel=TOLERANCE)
    assert factored.spectral_norm(first) == pytest.approx(float(torch.linalg.matrix_norm(one, 2)), rel=TOLERANCE)
    sizes = float(one.norm() * two.norm())
    assert factored.inner(first, second) == pytest.approx(float((one * two).sum()), abs=TOLERANCE * sizes)
    assert factored.cosine(first, second) == pytest.approx(float((one * two).sum()) / sizes, abs=TOLERANCE)
    values = factored.singular_values(first)
    assert len(values) == min(m, n, r1)
    expected = torch.linalg.svdvals(one)
    assert torch.allclose(values, expected[: len(values)], rtol=0, atol=TOLERANCE * float(expected[0]))
    assert not (expected[len(values) :] > 1e-12 * expected[0]).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_overlaps_are_those_of_the_dense_changes(shape: tuple[int, ...]) -> None:
    m, n, r1, r2 = shape
    first, second = factors(m, n, r1, 0), factors(m, n, r2, 1)
    (columns_1, rows_1), (columns_2, rows_2) = bases(first), bases(second)
    least, most = sorted((columns_1.shape[1], columns_2.shape[1]))
    found = factored.subspace_overlap(first, second)
    assert found.columns == pytest.approx(float((columns_1.t() @ columns_2).square().sum()) / least, abs=TOLERANCE)
    assert found.rows == pytest.approx(float((rows_1.t() @ rows_2).square().sum()) / least, abs=TOLERANCE)
    assert (found.columns_by_chance, found.rows_by_chance) == (most / m, most / n)
    inside = float((columns_2.t() @ dense(first)).norm() / dense(first).norm())
    assert factored.energy_overlap(first, second) == pytest.approx(inside, abs=TOLERANCE)


def test_chance_is_what_random_changes_share() -> None:
    m, n, r1, r2, draws = 60, 48, 4, 9, 200
    found = [factored.subspace_overlap(factors(m, n, r1, 2 * i), factors(m, n, r2, 2 * i + 1)) for i in range(draws)]
    # 200 draws bring the mean to within a few thousandths
    assert sum(one.columns_above_chance for one in found) / draws == pytest.approx(0, abs=0.01)
    assert sum(one.rows_above_chance for one in found) / draws == pytest.approx(0, abs=0.01)
    assert found[0].columns_by_chance == r2 / m


@pytest.mark.parametrize("weights", [None, (1.0, -0.5, 2.0), (1.0, 0.0, 0.0)])
def test_interference_is_that_of_the_dense_sum(weights: tuple[float, ...] | None) -> None:
    changes = [factors(30, 20, rank, seed) for seed, rank in enumerate((3, 5, 2))]
    each = [w * dense(change) for w, change in zip(weights or (1.0, 1.0, 1.0), changes, strict=True)]
    expected = float(sum(each).square().sum() / sum(one.square().sum() for one in each))
    assert factored.interference(changes, weights) == pytest.approx(expected, rel=TOLERANCE)
    table = factored.inner_products(changes)
    for i, first in enumerate(changes):
        for j, second in enumerate(changes):
            assert float(table[i, j]) == pytest.approx(float((dense(first) * dense(second)).sum()), rel=TOLERANCE)


def test_the_ends_of_the_scales() -> None:
    one = factors(30, 20, 3, 0)
    twice = (one[0], 2 * one[1])
    assert factored.cosine(one, twice) == pytest.approx(1, abs=1e-12)
    assert factored.cosine(one, (-one[0], one[1])) == pytest.approx(-1, abs=1e-12)
    assert factored.subspace_overlap(one, twice).columns == pytest.approx(1, abs=TOLERANCE)
    assert factored.energy_overlap(one, twice) == pytest.approx(1, abs=TOLERANCE)
    assert factored.interference([one, one]) == pytest.approx(2, abs=1e-12)
    assert factored.interference([one, one], (1.0, -1.0)) == pytest.approx(0, abs=1e-20)
    apart = (torch.eye(4)[:, :2], torch.eye(2, 5)), (torch.eye(4)[:, 2:], torch.eye(2, 5))
    assert factored.interference(apart) == pytest.approx(1, abs=1e-12)
    assert factored.subspace_overlap(*apart).columns == 0
    assert factored.subspace_overlap(*apart).rows == pytest.approx(1, abs=TOLERANCE)


def test_a_difference_that_nearly_cancels_keeps_its_digits() -> None:
    """A Gram sum alone would be lost in rounding: (1e-9)² of its terms is below fp64."""
    one = factors(30, 20, 3, 0, torch.float64)
    other = factors(30, 20, 3, 1, torch.float64)
    shifted = factored.joined((one, other), (1.0, 1e-9))
    apart = factored.norm(factored.joined((shifted, one), (1.0, -1.0)))
    assert apart == pytest.approx(1e-9 * float(dense(other).norm()), rel=1e-5)  # 1e-16 / 1e-9, with a margin


def test_a_change_of_zeros_is_like_nothing() -> None:
    nothing, something = (torch.zeros(6, 2), torch.randn(2, 5)), factors(6, 5, 2, 0)
    assert factored.norm(nothing) == factored.spectral_norm(nothing) == 0
    assert factored.cosine(nothing, something) == factored.energy_overlap(nothing, something) == 0
    assert factored.energy_overlap(something, nothing) == 0
    assert factored.subspace_overlap(nothing, something) == factored.Overlap(0, 0, 0, 0)
    assert factored.interference([nothing, nothing]) == 1
    assert factored.effective_rank(factored.singular_values(nothing)) == 0
    empty = (torch.zeros(6, 0), torch.zeros(0, 5))
    assert (factored.norm(empty), factored.spectral_norm(empty), factored.cosine(empty, something)) == (0, 0, 0)


def test_effective_rank_counts_equal_values_and_is_below_the_rank_else() -> None:
    for rank in (1, 2, 7):
        values = torch.cat([torch.full((rank,), 3.0), torch.zeros(4)])
        assert factored.effective_rank(values) == pytest.approx(rank, rel=1e-12)
    shares = torch.tensor([0.5, 0.25, 0.25])
    assert factored.effective_rank(shares.sqrt()) == pytest.approx(2**1.5, rel=1e-6)  # entropy of 1.5 bits
    assert 1 < factored.effective_rank(torch.tensor([1.0, 0.1])) < 1.1
    assert not math.isnan(factored.effective_rank(torch.tensor([1.0, 0.0])))


def test_factors_are_left_as_they_are() -> None:
    one, two = factors(8, 6, 2, 0), factors(8, 6, 3, 1)
    before = [part.clone() for part in (*one, *two)]
    factored.interference([one, two], (0.5, 2.0))
    factored.subspace_overlap(one, two)
    assert all(torch.equal(part, old) for part, old in zip((*one, *two), before, strict=True))
