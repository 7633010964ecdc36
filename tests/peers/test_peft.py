"""PEFT's own merge of small layers, against the deltas of lora_core; and folders that PEFT saves.

Tolerance as in test_diffusers: the same sum in fp32, in another order.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import nn

import lora_core
from lora_core.adapters.suffixes import split_name
from lora_core.naming.dialects import split_dialect
from lora_core.naming.targets import Target
from lora_core.reading.lorafile import LoraFile
from lora_core.stack.apply import Placed, apply_stack
from tests.peers.models import (
    FAMILIES,
    assert_same,
    changed,
    deviation,
    prefixed,
    randomised,
    target_modules,
    write,
)

FP32 = 1e-6
LAYERS = ("linear", "point", "kernel", "video", "inner.linear")


class Layers(nn.Module):
    """Every layer type that LoRA is applied to, none of them square."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 20)
        self.point = nn.Conv2d(6, 10, 1)
        self.kernel = nn.Conv2d(6, 10, 3, padding=1)
        self.video = nn.Conv3d(4, 7, (1, 2, 3))
        self.inner = nn.ModuleDict({"linear": nn.Linear(9, 5)})


VARIANTS: dict[str, dict[str, Any]] = {
    "rank is alpha": {"r": 4, "lora_alpha": 4},
    "alpha": {"r": 4, "lora_alpha": 10},
    "rslora": {"r": 4, "lora_alpha": 10, "use_rslora": True},
    "bias": {"r": 3, "lora_alpha": 5, "lora_bias": True},
    "rslora and bias": {"r": 3, "lora_alpha": 5, "lora_bias": True, "use_rslora": True},
    # "linear" is a whole name and also the end of "inner.linear"
    "patterns": {"r": 4, "lora_alpha": 10, "rank_pattern": {"kernel": 2}, "alpha_pattern": {"linear": 3, "video": 1}},
    "whole names": {"r": 4, "lora_alpha": 10, "alpha_pattern": {"^linear": 3, "inner.linear": 7}},
}


def adapted(model: nn.Module, **options: Any) -> PeftModel:
    """Return the model with a random LoRA, no factor of which is zero."""
    wrapped = get_peft_model(model, LoraConfig(**options))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in wrapped.named_parameters():
        if ".lora_" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5)
    return wrapped


def with_header(folder: Path, model: PeftModel) -> Path:
    """Write the saved folder's tensors with the configuration in the header, where a single file has it."""
    config = model.peft_config["default"].to_dict()
    config = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    tensors = load_file(folder / "adapter_model.safetensors")
    return write(folder / "one.safetensors", tensors, {"lora_adapter_metadata": json.dumps(config)})


# PEFT takes the one-dimensional bias of lora_bias=True for an incomplete shard when it saves
@pytest.mark.case(44)
@pytest.mark.filterwarnings("ignore:Adapter 'default'. .* LoRA tensor.s. have invalid shape")
@pytest.mark.parametrize("strength", [1.0, -0.4])
@pytest.mark.parametrize("variant", VARIANTS)
def test_small_layers(tmp_path: Path, variant: str, strength: float) -> None:
    base = randomised(Layers())
    model = adapted(copy.deepcopy(base), target_modules=list(LAYERS), **VARIANTS[variant])
    model.save_pretrained(tmp_path)
    lora = with_header(tmp_path, model)
    for module in model.modules():
        if hasattr(module, "scale_layer"):
            module.scale_layer(strength)
    expected = model.merge_and_unload().state_dict()
    weights = base.state_dict()
    got = dict(weights)
    with LoraFile(lora) as file:
        for spec in file.adapters:
            key = f"{spec.module.removeprefix('base_model.model.')}.{spec.param}"
            adapter = file.adapter(spec)
            got[key] = apply_stack(weights[key], [Placed(adapter, Target(key, tuple(weights[key].shape)), strength)])
            delta = adapter.delta(weights[key])
            assert deviation(delta * strength, expected[key] - weights[key]) < 5e-6  # the difference cancels digits
    assert_same(got, expected, FP32)
    parts = ("weight", "bias") if "bias" in variant else ("weight",)
    assert changed(weights, expected) == {f"{name}.{part}" for name in LAYERS for part in parts}


def test_the_names_of_a_saved_folder_are_all_understood(tmp_path: Path) -> None:
    options = {"r": 2, "target_modules": list(LAYERS)}
    adapted(randomised(Layers()), **options).save_pretrained(tmp_path)
    splits = {name: split_name(name) for name in load_file(tmp_path / "adapter_model.safetensors")}
    assert len(splits) == 2 * len(LAYERS)
    found = set()
    for split in splits.values():
        assert split is not None
        dialect, module = split_dialect(split.module)
        assert (dialect.id, split.part.kind) == ("peft", "lora")
        found.add((module, split.part.field))
    assert found == {(name, field) for name in LAYERS for field in ("up", "down")}


@pytest.mark.parametrize("name", ["flux", "sd35_medium", "wan", "sdxl"])
def test_a_folder_saved_from_a_diffusion_model(tmp_path: Path, name: str) -> None:
    """PEFT's own names before diffusers' module names, a spelling that other tools drop."""
    family = FAMILIES[name]
    base_model = randomised(family.make())
    model = adapted(base_model, r=4, lora_alpha=4, target_modules=target_modules(base_model))
    model.save_pretrained(tmp_path)
    weights = randomised(family.make()).state_dict()
    base = write(tmp_path / "base.safetensors", prefixed(family.prefix, family.to_original(weights)))
    out = tmp_path / "merged.safetensors"
    lora_core.merge(base, [(tmp_path / "adapter_model.safetensors", 0.5)], out, on_unmatched="error")
    for module in model.modules():
        if hasattr(module, "scale_layer"):
            module.scale_layer(0.5)
    expected = model.merge_and_unload().state_dict()
    assert_same(load_file(out), prefixed(family.prefix, family.to_original(expected)), FP32)
    assert len(changed(weights, expected)) == len(target_modules(family.make()))
