"""A merge names weights of NaN or infinity, wherever in them these are, and what becomes so by the LoRAs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

import lora_core
from tests import tiny
from tests.core.samples import load, save

pytestmark = pytest.mark.attack(8)
KEY, OTHER = "blocks.0.self_attn.q.weight", "blocks.0.self_attn.k.weight"


def model(folder: Path, dtype: torch.dtype, **numbers: float) -> Path:
    """Return a model whose weights have a number at their last place."""
    tensors = load(tiny.make_tiny("wan21", folder / "clean.safetensors"))
    tensors = {key: tensor.clone().to(dtype) for key, tensor in tensors.items()}
    for key, number in zip((KEY, OTHER), numbers.values(), strict=False):
        tensors[key].view(-1)[-1] = number
    return save(folder / "base.safetensors", tensors)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float8_e5m2])
@pytest.mark.parametrize("out_dtype", ["keep", "fp16", "bf16"])
def test_a_model_with_such_weights(tmp_path: Path, dtype: torch.dtype, out_dtype: str) -> None:
    base = model(tmp_path, dtype, first=math.nan, second=math.inf)
    ink = tiny.make_lora(tmp_path / "ink.safetensors", tiny.modules("wan21"), seed=1)
    report = lora_core.merge(base, [ink], tmp_path / "out.safetensors", dtype=out_dtype)
    (told,) = [one for one in report.warnings if "before any LoRA" in one]
    assert told.startswith("base.safetensors: 2 weights of NaN or infinity before any LoRA, and so after: ")
    assert KEY in told and OTHER in told
    json.dumps(report.to_dict(), allow_nan=False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_sound_model_has_none(tmp_path: Path, dtype: torch.dtype) -> None:
    ink = tiny.make_lora(tmp_path / "ink.safetensors", tiny.modules("wan21"), seed=1)
    report = lora_core.merge(model(tmp_path, dtype), [ink], tmp_path / "out.safetensors")
    assert not [one for one in report.warnings if "NaN" in one or "beyond" in one]


def test_what_overflows_is_told_as_such(tmp_path: Path) -> None:
    ink = tiny.make_lora(tmp_path / "ink.safetensors", tiny.modules("wan21"), seed=1)
    huge = {
        name: torch.tensor(1e9) if name.endswith("alpha") else torch.full_like(tensor.float(), 9e8)
        for name, tensor in load(ink).items()
    }
    stack = [(save(tmp_path / "huge.safetensors", huge), 100.0)] * 9
    report = lora_core.merge(model(tmp_path, torch.float32), stack, tmp_path / "out.safetensors")
    json.dumps(report.to_dict(), allow_nan=False)
    assert not [one for one in report.warnings if "before any LoRA" in one]
    assert all(math.isfinite(one.relative_size or 0) for one in report.loras)
