"""Stochastic rounding: right on average everywhere, exact where the format is, and the same for the same seed."""

from __future__ import annotations

import pytest
import torch

from lora_core.algebra import rounding
from lora_core.algebra.rounding import RealisedChange, round_stochastically

FORMATS = (torch.float8_e4m3fn, torch.float8_e5m2)
COUNT = 400_000


def neighbours(value: float, dtype: torch.dtype) -> tuple[float, float]:
    """The numbers of the format below and above `value`, from a list of all of them."""
    codes = torch.arange(256, dtype=torch.uint8).view(dtype).double()
    known = codes[codes.isfinite()]
    return float(known[known <= value].max()), float(known[known >= value].min())


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    "value", [1.0001, 1.03, 0.9999, 1.9999, 2.02, 0.0157, 0.0155, 0.3, 447.9, 0.0041, 3e-3, 6.2e-5, 6.0e-5, 1e-5]
)
def test_the_mean_is_the_value_and_only_its_neighbours_are_drawn(dtype: torch.dtype, sign: int, value: float) -> None:
    """Beside powers of two, too, where the steps change, and below the smallest normal number, where they don't.

    The bound is 5 standard errors of the mean, and 2^-16 of a step for the chance that has 16 bits."""
    exact = torch.tensor(sign * value)
    low, high = neighbours(float(exact), dtype)
    drawn = round_stochastically(exact.expand(COUNT), dtype, 7).double()
    assert set(drawn.unique().tolist()) <= {low, high}
    chance = (float(exact) - low) / (high - low)
    error = (chance * (1 - chance) / COUNT) ** 0.5 * (high - low)
    assert abs(float(drawn.mean()) - float(exact)) <= 5 * error + 2**-16 * (high - low)


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_the_mean_over_many_values_is_right(dtype: torch.dtype) -> None:
    values = torch.randn(2**20, generator=torch.Generator().manual_seed(0)) * 0.02
    error = round_stochastically(values, dtype, 1).double() - values.double()
    assert abs(float(error.mean())) <= 5 * float(error.std()) / 2**10


@pytest.mark.parametrize("dtype", FORMATS, ids=str)
def test_what_the_format_holds_stays_and_what_it_does_not_is_clamped(dtype: torch.dtype) -> None:
    codes = torch.arange(256, dtype=torch.uint8).view(dtype).float()
    known = codes[codes.isfinite()].repeat(1000)  # more than one piece
    assert known.numel() > rounding._PIECE
    assert torch.equal(round_stochastically(known, dtype, 3).float(), known)
    limit = torch.finfo(dtype).max
    odd = torch.tensor([limit * 2, -limit * 2, float("inf"), -float("inf"), float("nan"), 1e-40])
    found = round_stochastically(odd, dtype, 3).float()
    assert found[:4].tolist() == [limit, -limit, limit, -limit]
    assert found[4].isnan() and found[5] == 0


def test_the_seed_decides_and_shapes_stay() -> None:
    values = torch.randn(3, 50_000, generator=torch.Generator().manual_seed(0))
    first, again, other = (round_stochastically(values, FORMATS[0], seed).float() for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    for shape in ((), (0, 4), (1,), (5, 3), (2, 3, 1, 1)):
        assert round_stochastically(torch.full(shape, 0.3), FORMATS[0], 0).shape == shape
    view = torch.randn(64, 32).t()
    assert torch.equal(
        round_stochastically(view, FORMATS[0], 0).float(),
        round_stochastically(view.contiguous(), FORMATS[0], 0).float(),
    )


def test_pieces_are_drawn_apart() -> None:
    """Two pieces, or four numbers of one draw, with the same chance would show as stripes."""
    drawn = round_stochastically(torch.full((4 * rounding._PIECE,), 1.0625), FORMATS[0], 0).float() > 1
    flat = drawn.float() - 0.5
    for distance in (1, 2, 3, 4, rounding._PIECE):
        agreement = float((flat[distance:] * flat[:-distance]).mean() * 4)
        assert abs(agreement) < 5 / (flat.numel() - distance) ** 0.5


def test_the_realised_change_is_that_of_fp64() -> None:
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(600, 700, generator=generator)
    after = before + 0.05 * torch.randn(600, 700, generator=generator)
    rounded, then = before.to(FORMATS[0]).float(), after.to(FORMATS[0]).float()
    found = RealisedChange.of(before, after, rounded, then)
    change = after.double() - before.double()
    expected = float((then.double() - rounded.double() - change).norm() / change.norm())
    assert found.relative_error == pytest.approx(expected, rel=1e-5)
    both = RealisedChange()
    both.add(found)
    both.add(found)
    assert (both.layers, both.relative_error) == (2, pytest.approx(expected, rel=1e-5))
