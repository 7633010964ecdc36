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


def overlap(first: factored.Factors, second: factored.Factors) -> factored.Overlap:
    return factored.overlap_of(factored.spaces_of(first), factored.spaces_of(second))


@pytest.mark.case(44)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_sizes_and_likeness_are_those_of_the_dense_changes(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    m, n, r1, r2 = shape
    first, second = factors(m, n, r1, 0, dtype), factors(m, n, r2, 1, dtype)
    one, two = dense(first), dense(second)
    sizes = float(one.norm() * two.norm())
    assert factored.inner(first, second) == pytest.approx(float((one * two).sum()), abs=TOLERANCE * sizes)
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
    found = overlap(first, second)
    assert found.columns == pytest.approx(float((columns_1.t() @ columns_2).square().sum()) / least, abs=TOLERANCE)
    assert found.rows == pytest.approx(float((rows_1.t() @ rows_2).square().sum()) / least, abs=TOLERANCE)
    assert (found.columns_by_chance, found.rows_by_chance) == (most / m, most / n)


def test_chance_is_what_random_changes_share() -> None:
    m, n, r1, r2, draws = 60, 48, 4, 9, 200
    found = [overlap(factors(m, n, r1, 2 * i), factors(m, n, r2, 2 * i + 1)) for i in range(draws)]
    # 200 draws bring the mean to within a few thousandths
    assert sum(one.columns_above_chance for one in found) / draws == pytest.approx(0, abs=0.01)
    assert sum(one.rows_above_chance for one in found) / draws == pytest.approx(0, abs=0.01)
    assert found[0].columns_by_chance == r2 / m


def test_inner_products_are_those_of_the_dense_changes() -> None:
    changes = [factors(30, 20, rank, seed) for seed, rank in enumerate((3, 5, 2))]
    table = factored.inner_products(changes)
    for i, first in enumerate(changes):
        for j, second in enumerate(changes):
            assert float(table[i, j]) == pytest.approx(float((dense(first) * dense(second)).sum()), rel=TOLERANCE)


def test_the_ends_of_the_scales() -> None:
    one = factors(30, 20, 3, 0)
    twice = (one[0], 2 * one[1])
    assert overlap(one, twice).columns == pytest.approx(1, abs=TOLERANCE)
    apart = (torch.eye(4)[:, :2], torch.eye(2, 5)), (torch.eye(4)[:, 2:], torch.eye(2, 5))
    assert overlap(*apart).columns == 0
    assert overlap(*apart).rows == pytest.approx(1, abs=TOLERANCE)


def test_a_change_of_zeros_is_like_nothing() -> None:
    nothing, something = (torch.zeros(6, 2), torch.randn(2, 5)), factors(6, 5, 2, 0)
    assert overlap(nothing, something) == factored.Overlap(0, 0, 0, 0)
    assert factored.effective_rank(factored.singular_values(nothing)) == 0


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
    factored.inner_products([one, two])
    overlap(one, two)
    assert all(torch.equal(part, old) for part, old in zip((*one, *two), before, strict=True))
