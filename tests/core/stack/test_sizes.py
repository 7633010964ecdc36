"""Sizes of changes beside the weights, told without forming the change and from a sample of the weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import lora_core
from lora_core.adapters import LoHa, LoKr, LoRA
from lora_core.adapters.base import Adapter
from lora_core.adapters.full import BiasDifference, FullDifference
from lora_core.adapters.rows import RowCut
from lora_core.naming.targets import Target
from lora_core.stack.sizes import Size, sized, weight_square
from tests import tiny
from tests.core.samples import save


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


LORA = LoRA(noise(48, 4), noise(4, 60, seed=1), None, 0.5)
ADAPTERS: list[Adapter] = [
    LORA,
    LoRA(noise(48, 4, 1, 1).half(), noise(4, 5, 3, 3, seed=1).half(), None, -2.0),
    LoRA(noise(48, 4, 1, 1), noise(3, 5, 1, 1, seed=1), noise(4, 3, 3, 3, seed=2), 1.5),
    LoKr(noise(8, 6), None, None, noise(6, 10, seed=1), None, None, None, 0.25),
    LoKr(None, noise(8, 2), noise(2, 6, seed=1), None, noise(6, 3, seed=2), noise(3, 10, seed=3), None, 3.0),
    LoHa(noise(48, 3), noise(3, 60, seed=1), noise(48, 3, seed=2), noise(3, 60, seed=3), None, None, 0.5),
    FullDifference(noise(48, 60), 1.0),
    BiasDifference(noise(48), 0.5),
]


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.kind)
def test_the_square_is_that_of_the_delta(adapter: Adapter) -> None:
    shape = (48, 5, 3, 3) if isinstance(adapter, LoRA) and adapter.up.dim() == 4 else (48, 60)
    weight = torch.zeros(48) if isinstance(adapter, BiasDifference) else torch.zeros(shape)
    expected = float(adapter.delta(weight).double().square().sum())
    assert adapter.change_square() == pytest.approx(expected, rel=1e-4)


def test_kinds_that_take_the_whole_change_tell_nothing() -> None:
    wide = LoHa(noise(600, 20), noise(20, 600), noise(600, 20), noise(20, 600), None, None, 1.0)
    assert wide.change_square() is None
    assert RowCut(wide, 0, 300, 600).change_square() is None


def exact(weight: torch.Tensor) -> float:
    return float(weight.double().square().sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_a_sample_of_numbers_that_are_alike_is_good_to_5_percent(dtype: torch.dtype) -> None:
    for seed, shape in enumerate([(1280, 1280), (3000, 777), (640, 320, 3, 3), (129, 131)]):
        weight = noise(*shape, seed=seed).to(dtype)
        found = weight_square(weight, Target("key", shape))
        assert found is not None
        assert float(found) ** 0.5 == pytest.approx(exact(weight.float()) ** 0.5, rel=0.05)


def test_rows_and_columns_that_differ_cost_10_percent_of_one_weight_and_1_of_a_model() -> None:
    found, true = 0.0, 0.0
    for seed in range(150):
        width = (320, 640, 768, 1024)[seed % 4]
        scales = 2 ** torch.rand(width, 1, generator=torch.Generator().manual_seed(seed))
        weight = noise(width, 512, seed=seed) * scales
        weight = weight.t().contiguous() if seed % 2 else weight
        square = weight_square(weight, Target("key", tuple(weight.shape)))
        assert square is not None
        assert float(square) ** 0.5 == pytest.approx(exact(weight) ** 0.5, rel=0.10)
        found, true = found + float(square), true + exact(weight)
    assert found**0.5 == pytest.approx(true**0.5, rel=0.01)


def test_a_small_weight_is_exact_and_a_slice_is_its_own() -> None:
    weight = noise(96, 64)
    weight[32:64] *= 5
    whole = weight_square(weight, Target("key", (96, 64)))
    part = weight_square(weight, Target("key", (32, 64), start=32))
    assert whole is not None and part is not None
    assert float(whole) == pytest.approx(exact(weight), rel=1e-5)
    assert float(part) == pytest.approx(exact(weight[32:64]), rel=1e-5)
    assert weight_square(torch.ones(8, 8, dtype=torch.int8), Target("key", (8, 8))) is None
    assert weight_square(torch.empty(8, 8, device="meta"), Target("key", (8, 8))) is None


def test_a_weight_that_two_adapters_change_counts_once() -> None:
    place, other = ("key", None, 4), ("other", None, 4)
    sizes = [Size("a", place, 4.0, 100.0), Size("a", place, 5.0, 100.0), Size("b", other, None, 9.0)]
    blocks, relative = sized([{"block": "a"}, {"block": "b"}, {"block": ""}], sizes)
    assert relative == pytest.approx(0.3)
    assert blocks[0] == {"block": "a", "norm": 3.0, "relative_size": pytest.approx(0.3)}
    assert blocks[1:] == [{"block": name, "norm": None, "relative_size": None} for name in ("b", "")]


def test_merge_tells_what_inspect_measures(tmp_path: Path) -> None:
    base = tiny.make_tiny("flux", tmp_path / "base.safetensors")
    lora = tiny.make_lora(tmp_path / "lora.safetensors", tiny.flat("lora_unet_", tiny.modules("flux")), 4)
    merged = lora_core.merge(base, [(lora, 0.5)], tmp_path / "out.safetensors").loras[0]
    seen = lora_core.inspect(lora, [base], spectra=True).loras[0]
    assert merged.relative_size == pytest.approx(seen.relative_size, rel=0.02)
    assert [block["block"] for block in merged.blocks] == [block["block"] for block in seen.blocks]
    for one, other in zip(merged.blocks, seen.blocks, strict=True):
        assert one["norm"] == pytest.approx(other["norm"], rel=1e-3)
        assert one["relative_size"] == pytest.approx(other["relative_size"], rel=0.1)
    assert sum(block["matched"] for block in merged.blocks) == merged.modules_matched


def test_blocks_count_modules_and_last_those_without_a_place(tmp_path: Path) -> None:
    base = tiny.make_tiny("flux", tmp_path / "base.safetensors")
    tensors = {}
    for name, rows in (("double_blocks_0_img_attn_proj", 128), ("single_blocks_0_linear2", 64), ("nowhere", 8)):
        tensors[f"lora_unet_{name}.lora_up.weight"] = noise(rows, 2)
        tensors[f"lora_unet_{name}.lora_down.weight"] = noise(2, 128)
    lora = save(tmp_path / "lora.safetensors", tensors)
    report = lora_core.inspect(lora, [base]).loras[0]
    counts = [(block["block"], block["matched"], block["total"]) for block in report.blocks]
    assert counts == [("double_blocks.0", 1, 1), ("single_blocks.0", 0, 1), ("", 0, 1)]
