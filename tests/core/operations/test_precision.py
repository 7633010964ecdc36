"""What every merge says of rounding: how far the written change is from the exact one, against fp64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lora_core
from lora_core.adapters.full import FullDifference
from lora_core.algebra import rounding
from lora_core.algebra.rounding import SampledRows
from lora_core.naming.targets import Target
from lora_core.stack import apply
from lora_core.stack.apply import Placed, apply_stack
from tests import tiny
from tests.core import samples

FLOATS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
NAMES = ("blocks.0.ffn.0", "blocks.0.self_attn.q", "blocks.0.self_attn.o")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("precision")
    base = tiny.make_tiny("wan21", folder / "base.safetensors", dtype=torch.bfloat16)
    shapes = {name: shape for name, shape in tiny.modules("wan21").items() if name in NAMES}
    assert len(shapes) == len(NAMES)
    return base, tiny.make_lora(folder / "lora.safetensors", tiny.flat("lora_unet_", shapes), 4, dtype=torch.float32)


def exact_change(lora: Path, name: str, strength: float) -> Tensor:
    parts, module = samples.load(lora), f"lora_unet_{name.replace('.', '_')}"
    up, down = (parts[f"{module}.lora_{side}.weight"].double() for side in ("up", "down"))
    return strength * float(parts[f"{module}.alpha"]) / down.shape[0] * up @ down


def expected(base: Path, lora: Path, out: Path, strength: float, dtype: torch.dtype) -> tuple[float, float]:
    """(error, strength) of all changed layers, in fp64."""
    before, after = samples.load(base), samples.load(out)
    lost = size = along = 0.0
    for name in NAMES:
        change = exact_change(lora, name, strength)
        written = after[f"{name}.weight"].double() - before[f"{name}.weight"].to(dtype).double()
        lost += float((written - change).square().sum())
        size += float(change.square().sum())
        along += float((written * change).sum())
    return (lost / size) ** 0.5, along / size


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("strength", [1.0, 0.02, 0.002])
@pytest.mark.parametrize("dtype", ["keep", *FLOATS])
def test_the_error_is_that_of_fp64_algebra(
    inputs: tuple[Path, Path], tmp_path: Path, dtype: str, strength: float, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows: to what fp32 sums are off by. A row of 41: the bound that `SampledRows` states."""
    base, lora = inputs
    monkeypatch.setattr(rounding, "_WHOLE", 2**40 if whole else 0)
    out = tmp_path / "out.safetensors"
    report = lora_core.merge(base, [(lora, strength)], out, dtype=dtype)
    written = torch.bfloat16 if dtype == "keep" else FLOATS[dtype]
    error, along = expected(base, lora, out, strength, written)
    (told,) = report.precision
    assert (told["dtype"], told["layers"]) == ("bf16" if dtype == "keep" else dtype, len(NAMES))
    assert told["error"] == pytest.approx(error, rel=1e-3 if whole else 0.2, abs=2e-6 / strength)
    assert told["strength"] == pytest.approx(along, rel=1e-3 if whole else 0.2)
    assert (strength == 0.002 and written == torch.bfloat16) == (error > 0.5)


def test_a_lost_change_is_a_warning_that_says_what_helps(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    base, lora = inputs
    report = lora_core.merge(base, [(lora, 0.002)], tmp_path / "bf16.safetensors")
    (told,) = report.precision
    assert f"{told['error']:.0%}" in report.warnings[-1]
    assert report.warnings[-1] == (
        f"3 changed layers written as bf16: the written change differs from the exact one by {told['error']:.0%}, "
        f"and has {told['strength']:.0%} of its strength: dtype fp32 keeps all of it, fp16 more of it in a file of "
        "the same size."
    )
    helped = lora_core.merge(base, [(lora, 0.002)], tmp_path / "fp16.safetensors", dtype="fp16")
    assert helped.precision[0]["error"] < told["error"] / 2
    assert helped.warnings == []
    kept = lora_core.merge(base, [(lora, 0.002)], tmp_path / "fp32.safetensors", dtype="fp32")
    assert kept.notes[-1].startswith("3 changed layers written as fp32: the written change differs from the exact one")
    assert kept.precision[0]["error"] < 1e-3


def test_sampled_rows_tell_of_all_rows_though_they_are_not_alike() -> None:
    """The bound of its docstring: rows whose changes differ a hundredfold, in 60 layers, within 5 %."""
    generator = torch.Generator().manual_seed(0)
    sampled, whole = rounding.RealisedChange(), rounding.RealisedChange()
    for _ in range(60):
        before = (torch.randn(1100, 96, generator=generator) * 0.02).bfloat16()
        sizes = 10 ** (2 * torch.rand(1100, 1, generator=generator)) * 2e-6
        after = before.float() + sizes * torch.randn(1100, 96, generator=generator)
        rows = SampledRows(before, after)
        assert len(rows.before) == 27
        sampled.add(rows.realised(after.bfloat16()))
        whole.add(rounding.RealisedChange.of(before, after, before, after.bfloat16()))
    assert sampled.relative_error == pytest.approx(whole.relative_error, rel=0.05)
    assert sampled.strength == pytest.approx(whole.strength, rel=0.05)


@pytest.mark.parametrize("shape", [(700, 130), (300, 20, 3, 3), (70_000,), (5, 3), (1, 90_000)])
@pytest.mark.parametrize("in_place", [True, False])
def test_the_rows_of_every_tile_are_the_exact_ones(shape: tuple[int, ...], in_place: bool, monkeypatch: Any) -> None:
    monkeypatch.setattr("lora_core.algebra.products.TILE", 2**12)
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(1)).half()
    change = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    stack = [Placed(FullDifference(change), Target("key", shape), 0.5)]
    before = weight.clone()
    rows = SampledRows(weight)
    out = weight if in_place else torch.empty(shape, dtype=torch.bfloat16)
    apply_stack(weight, stack, out=out, sampled=rows)
    step = 1 if weight.numel() <= 2**14 else 41
    wanted = (before.float() + 0.5 * change).reshape(shape[0], -1)[::step]
    assert torch.equal(rows.before, before.reshape(shape[0], -1)[::step])
    torch.testing.assert_close(rows.exact, wanted, rtol=0, atol=1e-6)


def test_layers_that_are_not_finite_tell_nothing() -> None:
    before = torch.ones(4, 4)
    rows = SampledRows(before, before * float("inf"))
    assert rows.realised(before).layers == 0


def test_only_merges_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """The live node's sums are told to nobody."""
    monkeypatch.setattr(SampledRows, "take", lambda *_: pytest.fail("nobody asked"))
    weight = torch.ones(4, 4)
    done = apply.apply_stack(weight, [Placed(FullDifference(weight), Target("key", (4, 4)), 1.0)])
    assert torch.equal(done, weight * 2)
