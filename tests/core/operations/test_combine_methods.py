"""The experimental methods: each against its formula, written here in fp64 over whole stacks of dense changes.

PEFT's own functions are the oracle in tests/peers/test_combined.py. Elementwise rules are compared by entry: where
a sum is nearly zero, or an entry nearly at the threshold, fp32 and fp64 may decide otherwise; so inputs are on a grid
that fp32 holds exactly.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import lora_core
from lora_core.errors import LoraError
from lora_core.operations.combining.changes import FactoredChange
from lora_core.operations.combining.corespace import merged_in_core, task_singular_vectors
from lora_core.operations.combining.elementwise import Rule, Sign, generator_of
from tests.core.operations.test_combine import FP32, PLACES, PROJ_IN, deviation, expected, of_file, sdxl
from tests.core.samples import listing, load, message, metadata_of

STRENGTHS = [1.0, -0.5, 0.75]
NAME, MEMBERS = "a.weight", [0, 2, 5]


def grid(seed: int, *shape: int) -> torch.Tensor:
    """Numbers of few binary digits, so that sums and products with the strengths are exact in fp32."""
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 64).round() / 64


def trimmed(tau: torch.Tensor, density: float) -> torch.Tensor:
    """The ⌊density · numel⌋ largest, and those as large as the last."""
    kept = int(density * tau.numel())
    least = tau.abs().flatten().sort(descending=True).values[kept - 1]
    return torch.where(tau.abs() >= least, tau, 0.0)


def merged(rule: Rule, taus: list[torch.Tensor]) -> torch.Tensor:
    return rule.merged([tau.float() for tau in taus], STRENGTHS, NAME, MEMBERS).double()


@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_magnitude_prune(density: float) -> None:
    taus = [grid(seed, 20, 33).double() for seed in range(3)]
    wanted = sum(w * trimmed(tau, density) for w, tau in zip(STRENGTHS, taus, strict=True))
    assert torch.equal(merged(Rule("magnitude_prune", density, "weighted", 0), taus), wanted)


@pytest.mark.parametrize("sign", ["weighted", "total", "frequency"])
@pytest.mark.parametrize("density", [0.3, 1.0])
def test_ties(sign: Sign, density: float) -> None:
    taus = torch.stack([trimmed(grid(seed, 20, 33).double(), density) for seed in range(3)])
    weights = torch.tensor(STRENGTHS, dtype=torch.float64)[:, None, None]
    votes = {"weighted": weights * taus, "total": taus, "frequency": taus}[sign]
    tally = (votes.sign() if sign == "frequency" else votes).sum(0)
    elected = torch.where(tally >= 0, 1.0, -1.0)
    agrees = votes.sign() == elected
    wanted = (weights * taus * agrees).sum(0) / agrees.sum(0).clamp(min=1)
    whole = [grid(seed, 20, 33).double() for seed in range(3)]
    assert torch.allclose(merged(Rule("ties", density, sign, 0), whole), wanted, rtol=FP32, atol=0)


def test_a_negative_strength_votes_as_it_is_applied() -> None:
    """τ = (1, ½) at strengths (1, −1): weighted, 1 against −½, so 1 alone; PEFT's mean of 1 and −½ is ¼."""
    for sign, wanted in (("weighted", 1.0), ("total", 0.25), ("frequency", 0.25)):
        taus = [torch.tensor([[1.0]]), torch.tensor([[0.5]])]
        assert float(Rule("ties", 1.0, sign, 0).merged(taus, [1.0, -1.0], NAME, [0, 1])) == wanted


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_dare_drops_by_its_own_seed_for_each_layer_and_lora(method: str) -> None:
    density = 0.25  # its inverse is exact
    taus = [grid(seed, 40, 50).double() for seed in range(3)]
    masks = [torch.empty(40, 50).bernoulli_(density, generator=generator_of(7, NAME, place)) for place in MEMBERS]
    kept = torch.stack([tau * mask.double() / density for tau, mask in zip(taus, masks, strict=True)])
    weights = torch.tensor(STRENGTHS, dtype=torch.float64)[:, None, None]
    wanted = (weights * kept).sum(0)
    if method == "dare_ties":
        agrees = (weights * kept).sign() == torch.where(wanted >= 0, 1.0, -1.0)
        wanted = (weights * kept * agrees).sum(0) / agrees.sum(0).clamp(min=1)
    assert torch.allclose(merged(Rule(method, density, "weighted", 7), taus), wanted, rtol=FP32, atol=0)
    assert 0.2 < float(torch.stack(masks).mean()) < 0.3
    assert not torch.equal(masks[0], masks[1])
    for seed, name, place in ((8, NAME, 0), (7, "b.weight", 0), (7, NAME, 1)):
        other = torch.empty(40, 50).bernoulli_(density, generator=generator_of(seed, name, place))
        assert not torch.equal(other, masks[0])


def test_more_entries_than_quantile_takes_are_pruned() -> None:
    """torch.quantile refuses more than 2²⁴ numbers, which a layer of Flux.1 has."""
    tau = torch.linspace(-1, 1, 2**24 + 2**10).reshape(2**10, -1)
    result = Rule("magnitude_prune", 0.25, "weighted", 0).merged([tau], [1.0], NAME, [0])
    assert int((result != 0).sum()) == int(0.25 * tau.numel())


def changes(*ranks: int, rows: int = 60, columns: int = 45) -> list[FactoredChange]:
    found: list[FactoredChange] = []
    for place, (rank, strength) in enumerate(zip(ranks, STRENGTHS, strict=False)):
        up, down = grid(2 * place, rows, rank), grid(2 * place + 1, rank, columns)
        found.append(FactoredChange(up, down, 0.5, strength, place))
    return found


def dense(change: FactoredChange) -> torch.Tensor:
    return change.up.double() @ change.down.double() * change.scale


def product(svd: Any) -> torch.Tensor:
    return (svd.left.double() * svd.values) @ svd.right.double()


def test_a_linear_rule_in_core_space_is_the_exact_sum() -> None:
    found = changes(4, 3, 6)
    svd = merged_in_core(found, Rule("magnitude_prune", 1.0, "weighted", 0), NAME)
    wanted = sum(change.strength * dense(change) for change in found)
    assert len(svd.values) == 13
    assert float((product(svd) - wanted).norm() / wanted.norm()) < FP32
    assert torch.allclose(svd.values, torch.linalg.svdvals(wanted)[:13], rtol=1e-9)


@pytest.mark.parametrize("method", ["magnitude_prune", "ties"])
def test_a_rule_in_core_space_sees_the_cores(method: str) -> None:
    """Mᵢ = Uᵀ ΔWᵢ V with the singular bases of the stacked factors; the signs of those are no matter."""
    found = changes(4, 3)
    left = torch.linalg.svd(torch.cat([change.up.double() for change in found], dim=1), full_matrices=False).U
    right = torch.linalg.svd(torch.cat([change.down.double() for change in found]), full_matrices=False).Vh.t()
    cores = torch.stack([trimmed(left.t() @ dense(change) @ right, 0.5) for change in found])
    weights = torch.tensor(STRENGTHS[:2], dtype=torch.float64)[:, None, None]
    core = (weights * cores).sum(0)
    if method == "ties":
        agrees = (weights * cores).sign() == torch.where(core >= 0, 1.0, -1.0)
        core = (weights * cores * agrees).sum(0) / agrees.sum(0).clamp(min=1)
    wanted = left @ core @ right.t()
    got = product(merged_in_core(found, Rule(method, 0.5, "weighted", 0), NAME))
    assert float((got - wanted).norm() / wanted.norm()) < FP32


def test_task_singular_vectors_against_their_dense_definition() -> None:
    found = changes(4, 3, 6)
    most = min(60, 45) // 3
    lefts, values, rights = [], [], []
    for change in found:
        left, own, right = torch.linalg.svd(change.strength * dense(change), full_matrices=False)
        rank = min(change.rank, most)
        lefts.append(left[:, :rank])
        values.append(own[:rank])
        rights.append(right[:rank])

    def polar(matrix: torch.Tensor) -> torch.Tensor:
        first, _, second = torch.linalg.svd(matrix, full_matrices=False)
        return first @ second

    wanted = polar(torch.cat(lefts, 1)) @ torch.diag(torch.cat(values)) @ polar(torch.cat(rights))
    got = product(task_singular_vectors(found))
    assert float((got - wanted).norm() / wanted.norm()) < FP32


def test_task_singular_vectors_of_one_and_of_the_same_twice() -> None:
    """One LoRA stays what it is; directions that two share count once, with both strengths."""
    (one,) = changes(4)
    assert float((product(task_singular_vectors([one])) - dense(one)).norm() / dense(one).norm()) < FP32
    twice = [one, FactoredChange(one.up, one.down, one.scale, 1.0, 1)]
    assert float((product(task_singular_vectors(twice)) - dense(one)).norm() / dense(one).norm()) < FP32


METHODS = [
    ("ties", "density 0.5, sign weighted"),
    ("dare_linear", "density 0.5, seed 3"),
    ("dare_ties", "density 0.5, sign weighted, seed 3"),
    ("magnitude_prune", "density 0.5"),
    ("core_ties", "density 0.5, sign weighted"),
    ("core_dare_linear", "density 0.5, seed 3"),
    ("core_dare_ties", "density 0.5, sign weighted, seed 3"),
    ("core_magnitude_prune", "density 0.5"),
    ("core_tsv", ""),
]


@pytest.mark.parametrize(("method", "numbers"), METHODS)
def test_every_method_says_that_it_is_experimental(tmp_path: Path, method: str, numbers: str) -> None:
    stack = [(sdxl(tmp_path / f"{name}.safetensors", name), 0.7) for name in "ab"]
    out = tmp_path / "out.safetensors"
    report = lora_core.combine(stack, out, method=method, seed=3)
    assert f"experimental: {method}{', ' if numbers else ''}{numbers}; 3 layers, rank 8" in report.notes
    note = json.loads(metadata_of(out)["lora_core.combined_from"])
    assert (note["method"], note["experimental"]) == (method, True)
    assert ("seed" in note) == ("dare" in method)
    again = lora_core.combine(stack, out, method=method, seed=3, overwrite=True)
    assert again.outputs == report.outputs
    assert all(0 < layer["energy"] <= 1 for layer in report.layers)
    first = load(out)
    lora_core.combine(stack, out, method=method, seed=4, overwrite=True)
    assert all(torch.equal(first[name], tensor) for name, tensor in load(out).items()) == ("dare" not in method)


@pytest.mark.parametrize("method", ["dare_linear", "core_magnitude_prune"])
def test_nothing_dropped_is_the_sum(tmp_path: Path, method: str) -> None:
    stack = [(sdxl(tmp_path / f"{name}.safetensors", name), 0.7, -0.2) for name in "ab"]
    lora_core.combine(stack, tmp_path / "out.safetensors", method=method, density=1.0)
    assert deviation(of_file(tmp_path / "out.safetensors"), expected(*stack)) < 10 * FP32, "fitted in fp32"


def test_dense_ties_of_files_and_the_energy_that_its_rank_loses(tmp_path: Path) -> None:
    stack = [(sdxl(tmp_path / f"{name}.safetensors", name), 0.7, 0.7) for name in "ab"]
    out = tmp_path / "out.safetensors"
    report = lora_core.combine(stack, out, method="ties", rank=6)
    key = PLACES[PROJ_IN]
    taus = [trimmed(expected((path, 1.0, 1.0))[key], 0.5) for path, _, _ in stack]
    tally = taus[0] + taus[1]
    agrees = [(tau.sign() == torch.where(tally >= 0, 1.0, -1.0)).double() for tau in taus]
    whole = sum(0.7 * tau * own for tau, own in zip(taus, agrees, strict=True)) / sum(agrees).clamp(min=1)
    values = torch.linalg.svdvals(whole)
    (layer,) = (layer for layer in report.layers if layer["name"] == PROJ_IN)
    lost = float((of_file(out)[key] - whole).square().sum() / whole.square().sum())
    assert layer["rank"] == 6
    assert 1 - layer["energy"] == pytest.approx(lost, rel=1e-3)
    optimum = float(values[6:].square().sum() / values.square().sum())
    assert lost <= optimum * 1.01**2, "the search is certified to be that close"


@pytest.mark.parametrize("method", ["ties", "dare_linear", "core_ties"])
def test_a_density_of_0_leaves_nothing(tmp_path: Path, method: str) -> None:
    a = sdxl(tmp_path / "a.safetensors", "a")
    text = message(LoraError, lambda: lora_core.combine([a], tmp_path / "o.safetensors", method=method, density=0.0))
    assert "nothing is left" in text
    assert listing(tmp_path) == ["a.safetensors"]
