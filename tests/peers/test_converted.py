"""LoRA files that lora_core converts, loaded by diffusers and PEFT: nothing left over, and the same change.

A random LoRA on the layers of a tiny model, under a trainer's names, is merged by lora_core, and converted, loaded and
fused by the peer; both must give the same weights. Tolerance as in test_diffusers, and the folding of a scale into a
factor, which rounds once more.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

import lora_core
from tests.peers import layouts
from tests.peers.layouts import Weights
from tests.peers.models import (
    FAMILIES,
    Family,
    assert_same,
    changed,
    clip_g,
    clip_l,
    pipeline,
    plain,
    prefixed,
    randomised,
    write,
)
from tests.tiny import random_normal

FP32 = 3e-6
RANK = 3
ALPHA = 2.0  # a scale that no fp16 factor holds exactly


@pytest.fixture(autouse=True)
def no_warnings(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """diffusers tells of keys that it does not know in its log."""
    logger = logging.getLogger("diffusers")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.WARNING)
    yield
    logger.removeHandler(caplog.handler)
    told = [record.getMessage() for record in caplog.records]
    assert [text for text in told if "key" in text.lower() and "No LoRA keys associated" not in text] == []


def trained(weights: Mapping[str, torch.Tensor], prefix: str, ranks: bool = False) -> Weights:
    """Return a LoRA as kohya's trainers write it, on every matrix and convolution of an original model."""
    tensors: Weights = {}
    for number, (key, weight) in enumerate(weights.items()):
        if not key.endswith(".weight") or weight.dim() < 2 or "embedding" in key.rpartition(".weight")[0][-12:]:
            continue
        rank = RANK + (number % 3 if ranks else 0)
        name = prefix + key.removesuffix(".weight").replace(".", "_")
        ones = (1,) * (weight.dim() - 2)
        down = random_normal(key + "down", (rank, *weight.shape[1:]), 0)
        tensors[f"{name}.lora_down.weight"] = down / down[0].numel() ** 0.5
        tensors[f"{name}.lora_up.weight"] = random_normal(key + "up", (weight.shape[0], rank, *ones), 0) / rank**0.5
        tensors[f"{name}.alpha"] = torch.tensor(ALPHA)
    return tensors


def prepared(name: str, folder: Path) -> tuple[Family, Path, Path, Weights]:
    """Return the family, its checkpoint, a trained LoRA, and the checkpoint's weights with the LoRA merged in."""
    family = FAMILIES[name]
    original = family.to_original(randomised(family.make()).state_dict())
    base = write(folder / "base.safetensors", prefixed(family.prefix, original))
    lora = write(folder / "trained.safetensors", trained(original, "lora_unet_", ranks=True))
    lora_core.merge(base, [lora], folder / "merged.safetensors", on_unmatched="error")
    merged = load_file(folder / "merged.safetensors")
    return family, base, lora, {key.removeprefix(family.prefix): tensor for key, tensor in merged.items()}


NAMES = ["flux", "sd3", "sd35_medium", "wan", "wan_i2v", "sd15", "sdxl"]


@pytest.mark.parametrize("name", NAMES)
def test_diffusers_loads_a_converted_lora(tmp_path: Path, name: str) -> None:
    family, base, lora, expected = prepared(name, tmp_path)
    out = tmp_path / "pytorch_lora_weights.safetensors"
    lora_core.convert(lora, out, dialect="diffusers", base=base, on_unmatched="error")
    model = randomised(family.make())
    before = family.to_original(plain(model))
    pipe = pipeline(family.loader, **{family.component: model})
    pipe.load_lora_weights(str(tmp_path), weight_name=out.name)
    pipe.fuse_lora(components=[family.component])
    after = family.to_original(plain(model))
    assert_same(after, expected, FP32)
    assert len(changed(before, after)) == len(load_file(lora)) // 3


@pytest.mark.parametrize("name", NAMES)
def test_peft_loads_a_converted_lora(tmp_path: Path, name: str) -> None:
    family, base, lora, expected = prepared(name, tmp_path)
    folder = tmp_path / "peft"
    folder.mkdir()
    lora_core.convert(lora, folder / "adapter_model.safetensors", dialect="peft", base=base, on_unmatched="error")
    model = PeftModel.from_pretrained(randomised(family.make()), str(folder))
    after = family.to_original(model.merge_and_unload().state_dict())
    assert_same(after, expected, FP32)


def test_a_single_layer_whose_name_ends_others_is_changed_alone(tmp_path: Path) -> None:
    """`proj_out` is the end of `single_transformer_blocks.0.proj_out` too, and PEFT compares ends."""
    family = FAMILIES["flux"]
    original = family.to_original(randomised(family.make()).state_dict())
    base = write(tmp_path / "base.safetensors", original)
    layer = {"final_layer.linear.weight": original["final_layer.linear.weight"]}
    lora = write(tmp_path / "trained.safetensors", trained(layer, "lora_unet_"))
    out = tmp_path / "peft" / "adapter_model.safetensors"
    out.parent.mkdir()
    lora_core.convert(lora, out, dialect="peft", base=base)
    model = PeftModel.from_pretrained(randomised(family.make()), str(out.parent))
    assert [name for name, _ in model.named_modules() if name.endswith("lora_A")] == [
        "base_model.model.proj_out.lora_A"
    ]
    assert changed(original, family.to_original(model.merge_and_unload().state_dict())) == set(layer)


@pytest.mark.parametrize("dialect", ["diffusers"])
def test_diffusers_loads_all_three_models_of_sdxl(tmp_path: Path, dialect: Any) -> None:
    makers = {"unet": FAMILIES["sdxl"].make, "text_encoder": clip_l, "text_encoder_2": clip_g}
    weights = {name: plain(randomised(make())) for name, make in makers.items()}
    base = write(tmp_path / "base.safetensors", sdxl_checkpoint(weights))
    encoders = {
        "lora_te1_": layouts.clip_l(weights["text_encoder"]),
        "lora_te2_": weights["text_encoder_2"],
    }
    tensors = trained(layouts.unet(weights["unet"]), "lora_unet_", ranks=True)
    for prefix, encoder in encoders.items():
        layers = {key: weight for key, weight in encoder.items() if ".layers." in key}
        tensors.update(trained(layers, prefix, ranks=True))
    lora = write(tmp_path / "trained.safetensors", tensors)
    lora_core.merge(base, [lora], tmp_path / "merged.safetensors", on_unmatched="error")
    out = tmp_path / "pytorch_lora_weights.safetensors"
    lora_core.convert(lora, out, dialect=dialect, base=base, on_unmatched="error")
    models = {name: randomised(make()) for name, make in makers.items()}
    pipe = pipeline(FAMILIES["sdxl"].loader, **models)
    pipe.load_lora_weights(str(tmp_path), weight_name=out.name)
    pipe.fuse_lora(components=list(models))
    after = sdxl_checkpoint({name: plain(model) for name, model in models.items()})
    assert_same(after, load_file(tmp_path / "merged.safetensors"), FP32)


def sdxl_checkpoint(weights: Mapping[str, Mapping[str, torch.Tensor]]) -> Weights:
    return {
        **prefixed("model.diffusion_model.", layouts.unet(weights["unet"])),
        **prefixed("conditioner.embedders.0.transformer.", layouts.clip_l(weights["text_encoder"])),
        **prefixed("conditioner.embedders.1.model.", layouts.open_clip(weights["text_encoder_2"])),
    }
