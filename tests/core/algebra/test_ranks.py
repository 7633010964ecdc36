"""Rules for ranks against their definitions, tried rank by rank, and budgets against all ways to spend them."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence

import pytest
import torch

from lora_core.algebra.rankrules import Spectrum
from lora_core.algebra.ranks import RankRule, rule_of, spread
from lora_core.errors import OptionError
from lora_core.options.ranks import BUDGETS, KOHYA_RULES, RULES

NO_LIMIT = 1000
EVERY_RULE = (*RULES, *BUDGETS, *KOHYA_RULES)
WEIGHT = 7.0  # ‖W‖_F


def spectrum(values: Sequence[float], shape: tuple[int, int] | None = None) -> Spectrum:
    sigma = torch.tensor(sorted(values, reverse=True), dtype=torch.float64)
    return Spectrum(sigma, float(sigma.square().sum()), shape or (len(values) + 3, len(values)), WEIGHT)


def drawn(seed: int) -> tuple[Spectrum, random.Random]:
    chance = random.Random(seed)
    count = chance.randint(1, 9)
    values = [chance.random() ** chance.choice((1, 4)) for _ in range(count)]
    if chance.random() < 0.2:
        values = [values[0]] * count  # all the same: nothing but counts decides
    return spectrum(values, (count + chance.randint(0, 3), count + chance.randint(0, 3))), chance


def norm(values: Sequence[float]) -> float:
    return math.sqrt(sum(value**2 for value in values))


Kept = Callable[[list[float], int, float, tuple[int, int]], bool]

# whether `rank` of these values satisfies a rule, with room for the last bit of a sum
KEEPS: dict[str, Kept] = {
    "energy": lambda s, k, t, shape: norm(s[:k]) ** 2 >= t * norm(s) ** 2 * (1 - 1e-11),
    "error": lambda s, k, t, shape: norm(s[k:]) ** 2 <= t**2 * norm(s) ** 2 + 1e-11 * norm(s) ** 2,
    "ratio": lambda s, k, t, shape: all(value < t * s[0] for value in s[k:]),
    "absolute": lambda s, k, t, shape: all(value <= t for value in s[k:]),
    "relative": lambda s, k, t, shape: all(value <= t * WEIGHT / math.sqrt(min(shape)) for value in s[k:]),
    "sum": lambda s, k, t, shape: sum(s[:k]) >= t * sum(s) * (1 - 1e-11),
}


@pytest.mark.parametrize("by", KEEPS)
def test_a_rule_gives_the_smallest_rank_that_satisfies_it(by: str) -> None:
    assert set(KEEPS) == set(RULES) - {"rank"}
    for seed in range(300):
        one, chance = drawn(seed)
        threshold = chance.choice((chance.random(), 1e-3, 0.5, 0.999))
        values = one.values.tolist()
        least = min(k for k in range(1, len(values) + 1) if KEEPS[by](values, k, threshold, one.shape))
        assert RankRule(by, threshold, NO_LIMIT).rank_of(one) == least, (by, threshold, values)
        assert RankRule(by, threshold, 2).rank_of(one) == min(2, least)


@pytest.mark.parametrize("by", [by for by in (*RULES, *KOHYA_RULES) if not RankRule(by, 0.5, 4).needs_all])
def test_the_largest_values_are_enough_for_all_but_sums(by: str) -> None:
    """As a search in a dense matrix finds them: the first few, and ‖ΔW‖ of all."""
    for seed in range(100):
        whole, chance = drawn(seed)
        known = chance.randint(1, len(whole.values))
        part = Spectrum(whole.values[:known], whole.total, whole.shape, WEIGHT)
        threshold = chance.random() + (1 if by == "sv_ratio" else 0)
        expected = min(known, RankRule(by, threshold, NO_LIMIT).rank_of(whole))
        assert RankRule(by, threshold, known).rank_of(part) == expected
    assert RankRule("sum", 0.5, 4).needs_all
    assert RankRule("sv_cumulative", 0.5, 4).needs_all


def kohya(by: str, sigma: torch.Tensor, threshold: float) -> int:
    """Return what resize_lora.py of sd-scripts takes, from all min(m, n) values."""
    if by == "sv_ratio":
        index = int((sigma > sigma[0] / threshold).sum())
    elif by == "sv_cumulative":
        index = int(torch.searchsorted(sigma.cumsum(0) / sigma.sum(), threshold)) + 1
    else:
        squares = sigma.square()
        index = int(torch.searchsorted(squares.cumsum(0) / squares.sum(), threshold**2)) + 1
    index = max(1, min(index, len(sigma) - 1))
    return 1 if sigma[0] <= 1e-6 else index + 1


@pytest.mark.parametrize("by", KOHYA_RULES)
def test_kohyas_rules_have_kohyas_roundings(by: str) -> None:
    for seed in range(500):
        one, chance = drawn(seed)
        if seed % 9 == 0:
            one = spectrum([value * 1e-6 for value in one.values.tolist()], one.shape)
        zeros = torch.zeros(min(one.shape) - len(one.values), dtype=torch.float64)
        threshold = chance.uniform(1.01, 30) if by == "sv_ratio" else chance.random()
        expected = kohya(by, torch.cat([one.values, zeros]), threshold)
        assert RankRule(by, threshold, NO_LIMIT).rank_of(one) == min(expected, len(one.values))
        assert RankRule(by, threshold, 3).rank_of(one) == min(expected, len(one.values), 3)


def test_kohyas_rule_takes_more_than_it_has_to() -> None:
    values = spectrum([4.0, 2.0, 1.0], (9, 5))
    assert RankRule("sv_fro", 0.9, NO_LIMIT).rank_of(values) == 3
    assert RankRule("energy", 0.9**2, NO_LIMIT).rank_of(values) == 2


def test_a_change_of_zeros_has_no_rank() -> None:
    nothing = Spectrum(torch.zeros(0, dtype=torch.float64), 0.0, (4, 4), WEIGHT)
    for by in (*RULES, *KOHYA_RULES):
        assert RankRule(by, 0.5, 8).rank_of(nothing) == 0
    assert spread(RankRule("file_size", 1.0, 8), [nothing]) == [0]
    assert spread(RankRule("total_error", 0.5, 8), [nothing]) == [0]


def test_relative_needs_the_weights() -> None:
    one = Spectrum(torch.ones(2).double(), 2.0, (4, 4))
    with pytest.raises(OptionError) as caught:
        RankRule("relative", 0.5, 8).rank_of(one)
    assert str(caught.value) == (
        "rank_by: relative compares with the weights, so it needs the model: give it as the base."
    )


# What the options mean


@pytest.mark.parametrize(
    ("rank_by", "energy", "threshold", "expected"),
    [
        ("auto", 0.0, 0.0, RankRule("rank", 0.0, 16)),
        ("auto", 0.9, 0.0, RankRule("energy", 0.9, 64)),
        ("rank", 0.9, 0.5, RankRule("rank", 0.0, 16)),
        ("energy", 0.0, 0.8, RankRule("energy", 0.8, 64)),
        ("energy", 0.9, 0.8, RankRule("energy", 0.9, 64)),
        ("error", 0.0, 0.1, RankRule("error", 0.1, 64)),
        ("file_size", 0.0, 120.0, RankRule("file_size", 120.0, 64)),
        ("sv_ratio", 0.0, 20.0, RankRule("sv_ratio", 20.0, 64)),
    ],
)
def test_options_make_a_rule(rank_by: str, energy: float, threshold: float, expected: RankRule) -> None:
    found = rule_of(rank=16, energy=energy, max_rank=64, rank_by=rank_by, threshold=threshold)
    assert found == expected
    assert found.is_budget == (rank_by in BUDGETS)


@pytest.mark.parametrize("rank_by", [by for by in EVERY_RULE if RankRule(by, 0.5, 4).has_threshold])
def test_a_number_outside_a_rules_range_is_refused(rank_by: str) -> None:
    def rule(threshold: float) -> RankRule:
        return rule_of(rank=16, energy=0.0, max_rank=64, rank_by=rank_by, threshold=threshold)

    for threshold in (0.0, -1.0, math.nan):
        with pytest.raises(OptionError, match=f"^threshold: for rank_by {rank_by} expected a number above"):
            rule(threshold)
    if rank_by in ("absolute", "relative", "sv_ratio", "file_size"):
        assert rule(20.0).threshold == 20.0
    else:
        assert rule(1.0).threshold == 1.0
        with pytest.raises(OptionError) as caught:
            rule(1.5)
        assert str(caught.value) == (
            f"threshold: for rank_by {rank_by} expected a number above 0, at most 1; found 1.5."
        )


def test_an_energy_outside_its_range_is_named() -> None:
    with pytest.raises(OptionError) as caught:
        rule_of(rank=16, energy=1.2, max_rank=64, rank_by="auto", threshold=0.0)
    assert str(caught.value) == "energy: for rank_by energy expected a number above 0, at most 1; found 1.2."


# Budgets


def layers(seed: int, shapes: Sequence[tuple[int, int]] | None = None) -> list[Spectrum]:
    chance = random.Random(seed)
    count = 3 if shapes is None else len(shapes)
    sizes = shapes or [(chance.randint(4, 40), chance.randint(4, 40)) for _ in range(count)]
    strengths = [chance.choice((0.1, 1.0, 3.0)) for _ in sizes]
    return [spectrum([chance.random() * s for _ in range(4)], size) for size, s in zip(sizes, strengths, strict=True)]


def costs(spectra: Sequence[Spectrum], ranks: Sequence[int]) -> int:
    return sum(sum(one.shape) * rank * 2 for one, rank in zip(spectra, ranks, strict=True))


def rests(spectra: Sequence[Spectrum], ranks: Sequence[int]) -> float:
    return sum(float(one.values[rank:].square().sum()) for one, rank in zip(spectra, ranks, strict=True))


def all_ranks(spectra: Sequence[Spectrum], highest: int) -> list[tuple[int, ...]]:
    return list(itertools.product(*(range(min(highest, len(one.values)) + 1) for one in spectra)))


@pytest.mark.parametrize("highest", [2, 4])
def test_a_file_size_is_spent_on_the_least_error_up_to_one_value(highest: int) -> None:
    for seed in range(25):
        spectra = layers(seed)
        fixed, size = 100, 100 + random.Random(seed).randint(0, costs(spectra, [highest] * 3) + 50)
        ranks = spread(RankRule("file_size", size / 1e6, highest), spectra, 2, fixed)
        assert costs(spectra, ranks) + fixed <= size
        best = min(rests(spectra, way) for way in all_ranks(spectra, highest) if costs(spectra, way) + fixed <= size)
        # what does not fit any more is what the optimum can have more, one value of one layer
        skipped = [float(one.values[rank]) ** 2 for one, rank in zip(spectra, ranks, strict=True) if rank < highest]
        assert best <= rests(spectra, ranks) + 1e-12
        assert rests(spectra, ranks) <= best + max(skipped, default=0.0) + 1e-12
        for place, one in enumerate(spectra):  # and nothing is left that would still fit
            more = [rank + (place == other) for other, rank in enumerate(ranks)]
            assert more[place] > min(highest, len(one.values)) or costs(spectra, more) + fixed > size


def test_a_file_size_is_spent_best_where_all_layers_cost_the_same() -> None:
    for seed in range(25):
        spectra = layers(seed, [(10, 6), (8, 8), (6, 10)])
        size = random.Random(seed).randint(0, costs(spectra, [4] * 3) + 50)
        ranks = spread(RankRule("file_size", size / 1e6, 4), spectra, 2)
        best = min(rests(spectra, way) for way in all_ranks(spectra, 4) if costs(spectra, way) <= size)
        assert rests(spectra, ranks) == pytest.approx(best, abs=1e-12)


def test_a_total_error_is_reached_with_the_smallest_file_up_to_one_value() -> None:
    for seed in range(40):
        spectra = layers(seed)
        threshold, total = random.Random(seed).uniform(0.05, 1), sum(one.total for one in spectra)
        ranks = spread(RankRule("total_error", threshold, 4), spectra)
        assert math.sqrt(rests(spectra, ranks) / total) <= threshold + 1e-9
        allowed = (threshold**2 + 1e-12) * total
        least = min(costs(spectra, way) for way in all_ranks(spectra, 4) if rests(spectra, way) <= allowed)
        largest = max(sum(one.shape) * 2 for one in spectra)
        assert least <= costs(spectra, ranks) < least + largest


def test_a_total_error_out_of_reach_takes_every_rank_there_is() -> None:
    spectra = layers(0)
    assert spread(RankRule("total_error", 0.001, 2), spectra) == [2, 2, 2]


def test_a_layer_of_zeros_gets_nothing_of_a_budget() -> None:
    nothing = Spectrum(torch.zeros(0, dtype=torch.float64), 0.0, (4, 4))
    assert spread(RankRule("file_size", 1.0, 8), [nothing, *layers(0)])[0] == 0
