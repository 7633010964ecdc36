"""Ranks that rules and budgets give, against fp64 singular values; sizes, against the files that are written."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lora_core.algebra.ranks import RankRule, rule_of
from lora_core.algebra.svd import Svd
from lora_core.errors import LoraError
from lora_core.files.scratch import Scratch, Sizes
from lora_core.report import Report
from lora_core.writing.layers import Truncation, WrittenLayer
from lora_core.writing.lorafile import lora_size, write_lora
from tests.core import samples

SHAPES = {"a": (24, 40), "b": (40, 24), "c": (16, 8, 3, 3), "d": (64, 32)}
FALL = {"a": 0.5, "b": 1.0, "c": 0.3, "d": 2.0}  # σᵢ = size · i^-fall
SIZE = {"a": 1.0, "b": 3.0, "c": 0.4, "d": 2.0}
WEIGHT = 30.0  # ‖W‖ of each


def spectrum(name: str) -> Tensor:
    rows, columns = SHAPES[name][0], math.prod(SHAPES[name][1:])
    return SIZE[name] * torch.arange(1, min(rows, columns) + 1, dtype=torch.float64) ** -FALL[name]


def svd(name: str) -> Svd:
    rows, columns = SHAPES[name][0], math.prod(SHAPES[name][1:])
    generator = torch.Generator().manual_seed(len(name) + rows)
    values = spectrum(name)
    left, right = (torch.linalg.qr(torch.randn(n, len(values), generator=generator))[0] for n in (rows, columns))
    return Svd(left, values, right.t().contiguous(), float(values.square().sum()))


def layer(name: str, has_alpha: bool = True) -> WrittenLayer:
    suffixes = (".lora_up.weight", ".lora_down.weight")
    return WrittenLayer(name, name, "block", SHAPES[name], suffixes, has_alpha, weight_norm=WEIGHT)


def truncated(
    rule: RankRule,
    tensors: Scratch,
    *,
    dtype: torch.dtype | None = torch.float16,
    conv_rank: int = 0,
    clamp: float = 1.0,
) -> Truncation:
    made = Truncation(rule, conv_rank, dtype, tensors, Report("extract"), clamp)
    for name in SHAPES:
        made.add(layer(name), svd(name))
    made.finish()
    return made


def ranks(made: Truncation) -> dict[str, int]:
    return {item["name"]: item["rank"] for item in made.report.layers}


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Scratch]:
    with Scratch(tmp_path / "lora.safetensors") as tensors:
        yield tensors


# Rules, each by its definition


def smallest(name: str, holds: object) -> int:
    """The smallest rank for which `holds(σ, rank)`."""
    values = spectrum(name)
    return next(rank for rank in range(1, len(values) + 1) if holds(values, rank))  # type: ignore[operator]


def rest(values: Tensor, rank: int) -> float:
    return math.sqrt(float(values[rank:].square().sum()) / float(values.square().sum()))


RULES = {
    ("energy", 0.9): lambda s, r: rest(s, r) ** 2 <= 0.1 + 1e-12,
    ("error", 0.3): lambda s, r: rest(s, r) <= 0.3 + 1e-12,
    ("ratio", 0.25): lambda s, r: r == len(s) or s[r] < 0.25 * s[0],
    ("absolute", 0.2): lambda s, r: r == len(s) or s[r] <= 0.2,
    ("relative", 0.05): lambda s, r: r == len(s) or s[r] <= 0.05 * WEIGHT / math.sqrt(len(s)),
    ("sum", 0.8): lambda s, r: float(s[:r].sum()) >= 0.8 * float(s.sum()) - 1e-12,
}


@pytest.mark.parametrize("by", RULES, ids=lambda by: by[0])
def test_a_rule_gives_the_smallest_rank_that_satisfies_it(scratch: Scratch, by: tuple[str, float]) -> None:
    rule = rule_of(rank=1, energy=0.0, max_rank=1000, rank_by=by[0], threshold=by[1])
    assert ranks(truncated(rule, scratch)) == {name: smallest(name, RULES[by]) for name in SHAPES}


def test_the_limits_come_first(scratch: Scratch) -> None:
    rule = rule_of(rank=1, energy=0.0, max_rank=5, rank_by="energy", threshold=0.999)
    made = truncated(rule, scratch, conv_rank=3)
    assert ranks(made) == {"a": 5, "b": 5, "c": 3, "d": 5}
    assert [made.limit(layer(name)) for name in SHAPES] == [5, 5, 3, 5]
    assert made.tensors["c.lora_up.weight"].shape == (16, 3, 1, 1)
    assert made.tensors["c.lora_down.weight"].shape == (3, 8, 3, 3)


# Budgets


def total_error(given: dict[str, int]) -> float:
    left = sum(float(spectrum(name)[rank:].square().sum()) for name, rank in given.items())
    return math.sqrt(left / sum(float(spectrum(name).square().sum()) for name in SHAPES))


def written(made: Truncation, path: Path) -> int:
    write_lora(path, made.tensors, {}, (), made.report, overwrite=True)
    return path.stat().st_size


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("kilobytes", [3, 6, 12.5, 20, 200])
def test_a_file_has_the_size_that_was_asked_for(
    scratch: Scratch, tmp_path: Path, kilobytes: float, dtype: torch.dtype
) -> None:
    made = truncated(RankRule("file_size", kilobytes / 1000, 1000), scratch, dtype=dtype)
    size = written(made, tmp_path / "lora.safetensors")
    given = ranks(made)
    assert size <= kilobytes * 1000
    costs = {name: dtype.itemsize * (SHAPES[name][0] + math.prod(SHAPES[name][1:])) for name in SHAPES}
    more = [cost for name, cost in costs.items() if given[name] < len(spectrum(name))]
    # what is left is less than one more singular value needs, and than a layer's header and alpha if it has none yet
    assert not more or kilobytes * 1000 - size < min(more) + (300 if 0 in given.values() else 16)
    assert {name for name, rank in given.items() if rank} == {name.split(".")[0] for name in made.tensors}


@pytest.mark.parametrize("threshold", [0.5, 0.2, 0.05, 0.01])
def test_an_error_of_all_layers_is_reached_by_as_little_as_it_takes(scratch: Scratch, threshold: float) -> None:
    given = ranks(truncated(RankRule("total_error", threshold, 1000), scratch))
    assert total_error(given) <= threshold
    fewer = [{**given, name: rank - 1} for name, rank in given.items() if rank]
    # the last value taken is the one that pays least, so without it the error is too large
    assert max(total_error(one) for one in fewer) > threshold or min(total_error(one) for one in fewer) > threshold


def test_a_budget_is_spent_where_it_does_most(tmp_path: Path) -> None:
    """No other ranks of the same size or less have less error: tried one by one, on layers of equal cost."""
    falls = (0.2, 0.7, 1.5)
    spectra = {f"l{n}": (n + 1) * torch.arange(1, 7, dtype=torch.float64) ** -fall for n, fall in enumerate(falls)}
    with Scratch(tmp_path / "lora.safetensors") as tensors:
        made = Truncation(RankRule("total_error", 0.35, 1000), 0, torch.float32, tensors, Report("extract"))
        for name, values in spectra.items():
            eye = torch.eye(6)
            shape = WrittenLayer(name, name, "block", (6, 6), (".up", ".down"))
            made.add(shape, Svd(eye, values, eye, float(values.square().sum())))
        made.finish()
        given = [item["rank"] for item in made.report.layers]

    def error(choice: tuple[int, ...]) -> float:
        return sum(float(values[rank:].square().sum()) for values, rank in zip(spectra.values(), choice, strict=True))

    same_size = [choice for choice in itertools.product(range(7), repeat=3) if sum(choice) <= sum(given)]
    assert error(tuple(given)) <= min(map(error, same_size)) * (1 + 1e-12)


def test_a_budget_counts_on_no_more_than_the_limit_of_kernels(scratch: Scratch) -> None:
    """The kernel's third value would do more for the error than any of the linear layer's, but it can't be had."""
    eye = torch.eye(8)
    made = Truncation(RankRule("total_error", 0.6, 6), 2, torch.float32, scratch, Report("extract"))
    for name, shape, size in (("linear", (8, 8), 1.0), ("kernel", (8, 2, 2, 2), 10.0)):
        values = torch.full((8,), size).double()
        made.add(
            WrittenLayer(name, name, "b", shape, (".up", ".down")), Svd(eye, values, eye, float(values.square().sum()))
        )
    made.finish()
    assert ranks(made) == {"linear": 6, "kernel": 2}


def test_a_budget_for_nothing_is_refused(scratch: Scratch) -> None:
    text = samples.message(LoraError, lambda: truncated(RankRule("file_size", 0.0001, 1000), scratch))
    assert text == "threshold: file_size 0.0001 leaves no layer any rank; raise it."


def test_what_comes_with_a_layer_goes_with_it(scratch: Scratch) -> None:
    made = Truncation(RankRule("file_size", 0.004, 1000), 0, torch.float16, scratch, Report("extract"))
    for name in SHAPES:
        made.add(layer(name), svd(name), {f"{name}.dora_scale": torch.ones(SHAPES[name][0], 1)})
    names = set(made.finish())
    given = ranks(made)
    assert 0 in given.values()
    assert {name for name in SHAPES if f"{name}.dora_scale" in names} == {name for name in SHAPES if given[name]}


# What is stored


def test_factors_share_the_singular_values_evenly(scratch: Scratch) -> None:
    made = truncated(RankRule("rank", 0.0, 6), scratch, dtype=None)
    for name in SHAPES:
        up, down = (made.tensors[f"{name}.lora_{side}.weight"].double().flatten(1) for side in ("up", "down"))
        assert torch.allclose(up.norm(dim=0).square(), spectrum(name)[:6], rtol=1e-5)
        assert torch.allclose(down.norm(dim=1).square(), spectrum(name)[:6], rtol=1e-5)
        assert float(made.tensors[f"{name}.alpha"]) == 6


@pytest.mark.parametrize("rule", [RankRule("rank", 0.0, 6), RankRule("file_size", 0.006, 99)], ids=lambda rule: rule.by)
def test_sizes_alone_are_those_of_the_file(scratch: Scratch, tmp_path: Path, rule: RankRule) -> None:
    real, told = truncated(rule, scratch), truncated(rule, Sizes())
    assert told.report.layers == real.report.layers
    assert told.tensors.planned() == real.tensors.planned()
    assert lora_size(told.tensors.planned(), {}) == written(real, tmp_path / "lora.safetensors")
    alphas = len(real.decided)
    assert sum(item["bytes"] for item in told.report.layers) == sum(t.nbytes for t in real.tensors.planned())
    assert alphas == sum(item["rank"] > 0 for item in told.report.layers)


def test_the_cut_is_kohyas(scratch: Scratch) -> None:
    """extract_lora_from_models.py of sd-scripts 48d368fa: quantile of both factors' signed values, of every layer."""
    whole = truncated(RankRule("rank", 0.0, 6), scratch, dtype=None)
    factors = {
        name: [whole.tensors[f"{name}.lora_{side}.weight"].clone() for side in ("up", "down")] for name in SHAPES
    }
    cut = truncated(RankRule("rank", 0.0, 6), scratch, dtype=None, clamp=0.99)
    for name, pair in factors.items():
        high = torch.quantile(torch.cat([factor.flatten() for factor in pair]), 0.99)
        for side, factor in zip(("up", "down"), pair, strict=True):
            found = cut.tensors[f"{name}.lora_{side}.weight"]
            # the quantile lies between two values here, and is one of them there
            assert torch.allclose(found, factor.clamp(-high, high), atol=0.05 * float(high))
            assert float(found.abs().max()) < float(factor.abs().max()) or float(factor.abs().max()) <= float(high)
