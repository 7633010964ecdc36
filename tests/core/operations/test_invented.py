"""A model of fifty layers that nobody has described, from the command line: merged, extracted and converted.

Every result is compared with dense algebra in fp64. fp32 weights hold a change of these sizes to 2e-6 of it, and an
extraction that subtracts two such files to 1e-4.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests import invented
from tests.core import samples
from tests.spellings import KOHYA, LAGOON, MUSUBI, PEFT, RANK, Spelling, change, drawn

FACTORS = drawn(invented.layers())
CHANGE = {module: change(*factors) for module, factors in FACTORS.items()}
APART = [module for module in CHANGE if module.endswith("mix.qkv")]

NAMED = pytest.mark.parametrize("spelling", LAGOON, ids=[spelling.id for spelling in LAGOON])
WRITTEN = {"comfy": "diffusion_model.", "kohya": "lora_unet_", "diffusers": "transformer.", "peft": "base_model.model."}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's file, as its makers would publish it: with a prefix that some have."""
    path = tmp_path_factory.mktemp("invented") / "lagoon.safetensors"
    return samples.save(path, {f"net.{key}": tensor for key, tensor in invented.state().items()})


def run(*arguments: object) -> dict[str, object]:
    done = samples.command(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(tuned: Path, expected: Mapping[str, Tensor], within: float = 2e-6) -> None:
    """Compare a merged file with the changes that are expected of the model's."""
    found = samples.load(tuned)
    for key, before in invented.state().items():
        wanted = expected.get(key.removesuffix(".weight")) if key.endswith(".weight") else None
        moved = found.pop(f"net.{key}").double() - before.double()
        if wanted is None:
            assert not moved.any(), key
        else:
            assert (moved - wanted).norm() <= within * wanted.norm(), key
    assert not found


def changes(file: Path, prefix: str, flat: bool) -> dict[str, Tensor]:
    """Read a LoRA file of the model's own names, and return its changes in fp64."""
    tensors, found = samples.load(file), {}
    for module in CHANGE:
        name = prefix + (module.replace(".", "_") if flat else module)
        down, up = (
            next(tensors.pop(f"{name}.{parts[at]}") for parts in (KOHYA, PEFT) if f"{name}.{parts[at]}" in tensors)
            for at in (0, 1)
        )
        alpha = tensors.pop(f"{name}.alpha", torch.tensor(float(down.shape[0])))
        found[module] = change(down, up) * (float(alpha) / down.shape[0])
    assert not tensors, "and nothing else"
    return found


def test_it_has_fifty_layers_and_nobody_knows_them() -> None:
    assert len(CHANGE) == 50
    assert len(APART) == 3


@NAMED
def test_merge(tmp_path: Path, base: Path, spelling: Spelling) -> None:
    lora = samples.save(tmp_path / "lora.safetensors", spelling.tensors(FACTORS))
    report = run("merge", "--base", base, "--lora", lora, 1, "--out", tmp_path / "out.safetensors")
    check(tmp_path / "out.safetensors", CHANGE)
    (told,) = report["loras"]  # type: ignore[misc]
    assert told["modules_matched"] == told["modules_total"]
    assert any("its own names are used" in note for note in report["notes"])  # type: ignore[union-attr]
    apart = {"as query, key and value of equal parts": 9} if spelling.pieces else {}
    assert {how: len(modules) for how, modules in told["read_as"].items()} == apart


def test_merge_of_fused_changes_where_the_model_has_them_apart(tmp_path: Path, base: Path) -> None:
    """Blocks without a fused layer, and a LoRA that was trained on one."""
    modules = {f"reef.{i}.mix.{name}": (72, 24) for i, name in ((1, "qkv"), (3, "to_qkv"))}
    factors = drawn(modules)
    lora = samples.save(tmp_path / "lora.safetensors", MUSUBI.tensors(factors))
    run("merge", "--base", base, "--lora", lora, "-0.5", "--out", tmp_path / "out.safetensors")
    expected = {
        f"{module.rpartition('.')[0]}.to_{part}": rows * -0.5
        for module, pair in factors.items()
        for part, rows in zip("qkv", change(*pair).chunk(3), strict=True)
    }
    check(tmp_path / "out.safetensors", expected)


def test_extract(tmp_path: Path, base: Path) -> None:
    tuned = samples.load(base)
    for module, delta in CHANGE.items():
        tuned[f"net.{module}.weight"] = (tuned[f"net.{module}.weight"].double() + delta).float()
    samples.save(tmp_path / "tuned.safetensors", tuned)
    for dialect, prefix in WRITTEN.items():
        out = tmp_path / f"{dialect}.safetensors"
        options = ("--rank", RANK, "--conv-rank", RANK, "--dialect", dialect, "--dtype", "fp32")
        run("extract", "--base", base, "--tuned", tmp_path / "tuned.safetensors", "--out", out, *options)
        found = changes(out, prefix, flat=dialect == "kohya")
        for module, delta in CHANGE.items():
            assert (found[module] - delta).norm() < 1e-4 * delta.norm(), (dialect, module)


@NAMED
@pytest.mark.parametrize("dialect", WRITTEN)
def test_convert(tmp_path: Path, base: Path, spelling: Spelling, dialect: str) -> None:
    lora = samples.save(tmp_path / "lora.safetensors", spelling.tensors(FACTORS))
    out = tmp_path / "out.safetensors"
    run("convert", lora, "--base", base, "--out", out, "--dialect", dialect)
    found = changes(out, WRITTEN[dialect], flat=dialect == "kohya")
    for module, delta in CHANGE.items():
        assert (found[module] - delta).norm() < 2e-6 * delta.norm(), module


def test_combine_and_inspect(tmp_path: Path, base: Path) -> None:
    """Two spellings of the change, one of which has query, key and value apart, are twice the change."""
    files = [
        samples.save(tmp_path / f"{spelling.id}.safetensors", spelling.tensors(FACTORS))
        for spelling in (MUSUBI, LAGOON[2])
    ]
    for file in files:
        (told,) = run("inspect", file, "--against", base)["loras"]  # type: ignore[misc]
        assert told["modules_matched"] == told["modules_total"]
    out = tmp_path / "out.safetensors"
    loras = [word for file in files for word in ("--lora", file)]
    run("combine", *loras, "--base", base, "--out", out, "--dialect", "comfy", "--dtype", "fp32")
    found = changes(out, WRITTEN["comfy"], flat=False)
    for module, delta in CHANGE.items():
        assert (found[module] - 2 * delta).norm() < 1e-4 * delta.norm(), module
