"""The makers of test files: what they write is what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tests import manifests, tiny


@pytest.mark.parametrize("model", ["flux", "sd3", "wan21", "ltx2"])
def test_a_tiny_model_has_the_listed_tensors_and_depends_on_the_seed_alone(tmp_path: Path, model: str) -> None:
    first = tiny.make_tiny(model, tmp_path / "first.safetensors")
    again = tiny.make_tiny(model, tmp_path / "again.safetensors")
    other = tiny.make_tiny(model, tmp_path / "other.safetensors", seed=1)
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()
    found = {key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in load_file(first).items()}
    assert found == {key: (tiny.DTYPES[dtype], shape) for key, (dtype, shape) in manifests.tiny(model).items()}
    with safe_open(first, "pt") as file:
        config = json.loads(file.metadata().get("config", "{}"))
    assert config == manifests.tiny_config(model)
    assert bool(config) == (model == "ltx2")


@pytest.mark.parametrize("alpha", [None, 2.0])
@pytest.mark.parametrize("style", ["kohya", "peft", "tucker"])
def test_a_random_lora_changes_a_weight_by_about_a_third(tmp_path: Path, style: str, alpha: float | None) -> None:
    shapes = {"linear": (256, 512), "conv": (64, 128, 3, 3), "point": (128, 64, 1, 1)}
    path = tiny.make_lora(tmp_path / "x.safetensors", shapes, 8, style=style, alpha=alpha, dtype=torch.float32)
    parts = load_file(path)
    down, up = ("lora_A", "lora_B") if style == "peft" else ("lora_down", "lora_up")
    for name, shape in shapes.items():
        delta = parts[f"{name}.{up}.weight"].flatten(1) @ _inner(parts, name, down)
        scale = parts[f"{name}.alpha"].item() / 8 if f"{name}.alpha" in parts else 1.0
        fan_in = torch.Size(shape[1:]).numel()
        assert delta.std().item() * scale * fan_in**0.5 == pytest.approx(0.3, rel=0.15)


def _inner(parts: dict[str, torch.Tensor], name: str, down: str) -> torch.Tensor:
    factor = parts[f"{name}.{down}.weight"]
    if f"{name}.lora_mid.weight" not in parts:
        return factor.flatten(1)
    return torch.einsum("abkl,bi->aikl", parts[f"{name}.lora_mid.weight"], factor.flatten(1)).flatten(1)


def test_a_sparse_file_has_the_true_size_and_takes_no_room(tmp_path: Path) -> None:
    keys = tiny.with_dtype(manifests.checkpoint("sdxl").keys)
    path = tiny.sparse_file(tmp_path / "sdxl.safetensors", keys, {"format": "pt"})
    assert path.stat().st_size > 6e9
    with safe_open(path, "pt") as file:
        assert set(file.keys()) == set(keys)
        assert not file.get_tensor("first_stage_model.encoder.conv_in.weight").any()


def test_every_fixture_is_readable() -> None:
    for arch in manifests.archs():
        assert manifests.checkpoint(arch).keys
    for arch in manifests.alias_archs():
        assert manifests.aliases(arch)
        assert manifests.target_shapes(arch)
    for name in manifests.trainers():
        assert manifests.trainer(name).tensors
