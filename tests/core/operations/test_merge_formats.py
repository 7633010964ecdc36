"""`merge --dtype`: weights of the models that were found change their number format, and nothing else does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lora_core
from tests import tiny
from tests.core import samples

UNET, CLIP = "model.diffusion_model.", "cond_stage_model.transformer.text_model."
FLOATS = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp8_e4m3fn": torch.float8_e4m3fn}
LAYER = f"{UNET}input_blocks.1.1.transformer_blocks.0.attn1.to_q"
# name -> what the report calls it; values that no coarser format holds
STAYS = {
    f"{CLIP}embeddings.position_ids": "buffers",
    f"{UNET}time_embed.running_mean": "buffers",
    f"{UNET}time_embed.running_var": "buffers",
    f"{UNET}rope.inv_freq": "buffers",
    f"{UNET}middle_block.1.freqs_0": "buffers",
    f"{UNET}fourier_embed.weight": "buffers",
    f"{UNET}mix_factor": "scalars",
    "cond_stage_model.transformer.logit_scale": "scalars",
    "alphas_cumprod": "the noise schedule",
    "sqrt_recipm1_alphas_cumprod": "the noise schedule",
    "posterior_log_variance_clipped": "the noise schedule",
    "denoiser.log_sigmas": "the noise schedule",
    "first_stage_model.decoder.conv_in.weight": "the VAE",
    "vae.encoder.norm_out.bias": "the VAE",
    "model_ema.diffusion_modelinput_blocks11proj_inweight": "the averaged copy (EMA)",
    "control_model.input_hint_block.0.weight": "no model that was found",
    "safety_checker.concept_embeds": "no model that was found",
}


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    """A tiny SD 1.5 in fp32 with one layer of its text encoder, and with what is no weight of it."""
    keys = tiny.tiny("sd15")
    found = {
        key: tiny.fill(key, (10, *shape[1:]) if "token_embedding" in key else shape).float()
        for key, (_, shape) in keys.items()
        if not key.startswith("first_stage_model.") and not re.search(r"encoder\.layers\.[1-9]", key)
    }
    for number, key in enumerate(STAYS):
        shape = () if STAYS[key] == "scalars" else (4, 3, 3, 3) if key.endswith("conv_in.weight") else (2, 77)
        found[key] = torch.rand(shape, generator=torch.Generator().manual_seed(number)) * 1000 + 0.1
    return found


def lora(path: Path, weight: Tensor) -> Path:
    module, noise = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", torch.randn
    factors = {"lora_up": noise(weight.shape[0], 2), "lora_down": noise(2, weight.shape[1])}
    return samples.save(path, {f"{module}.{name}.weight": 0.1 * factor for name, factor in factors.items()})


@pytest.mark.parametrize("dtype", FLOATS)
def test_only_weights_of_models_change_their_format(tmp_path: Path, tensors: dict[str, Tensor], dtype: Any) -> None:
    samples.save(tmp_path / "base.safetensors", tensors)
    change = lora(tmp_path / "lora.safetensors", tensors[f"{LAYER}.weight"])
    out = tmp_path / "out.safetensors"
    report = lora_core.merge(tmp_path / "base.safetensors", [change], out, dtype=dtype)
    merged = samples.load(out)
    assert merged.keys() == tensors.keys()
    assert [key for key in STAYS if not samples.same_bytes(merged[key], tensors[key])] == []
    others = {key: merged[key].dtype for key in tensors if key not in STAYS}
    if dtype != "fp8_e4m3fn":
        assert set(others.values()) == {FLOATS[dtype]}
    (told,) = [note for note in report.notes if "number format: " in note]
    assert told.startswith(f"{sum(d == torch.float32 for d in merged_dtypes(merged))} tensors keep their number format")
    for what in set(STAYS.values()):
        assert f"{list(STAYS.values()).count(what)} of {what}" in told
    assert lora_core.verify(out, search=[tmp_path]).verified["equal"]  # type: ignore[index]


def merged_dtypes(tensors: dict[str, Tensor]) -> list[torch.dtype]:
    return [tensor.dtype for tensor in tensors.values()]


def test_fp8_is_for_layers_of_the_diffusion_model(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    """As ComfyUI runs it: it makes a text encoder what its norms are, fp16 here, and has no VAE in fp8."""
    samples.save(tmp_path / "base.safetensors", tensors)
    change = lora(tmp_path / "lora.safetensors", tensors[f"{LAYER}.weight"])
    out = tmp_path / "out.safetensors"
    report = lora_core.merge(tmp_path / "base.safetensors", [change], out, dtype="fp8_e4m3fn")
    merged = samples.load(out)
    coarse = {key for key, tensor in merged.items() if tensor.dtype == torch.float8_e4m3fn}
    assert f"{UNET}input_blocks.0.0.weight" in coarse  # a convolution
    assert coarse == {
        key
        for key, tensor in tensors.items()
        if key.startswith(UNET) and key.endswith(".weight") and tensor.dim() > 1
        and "_embed" not in key and key not in STAYS
    }  # fmt: skip
    assert not any(key.startswith(CLIP) for key in coarse)
    assert any("of text encoders, which ComfyUI runs in the format of their norms" in note for note in report.notes)


def test_a_text_encoder_alone_can_be_fp8(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    tensors = {  # as the file of a text encoder has them
        key.removeprefix("cond_stage_model.transformer."): value
        for key, value in tensors.items()
        if key.startswith("cond_stage_model.") and key not in STAYS
    }
    base = samples.save(tmp_path / "clip.safetensors", tensors)
    module = "text_model.encoder.layers.0.mlp.fc1"
    rows, columns = tensors[f"{module}.weight"].shape
    name = f"lora_te_{module.replace('.', '_')}"
    factors = {f"{name}.lora_up.weight": torch.ones(rows, 1), f"{name}.lora_down.weight": torch.ones(1, columns)}
    out = tmp_path / "out.safetensors"
    lora_core.merge(base, [samples.save(tmp_path / "lora.safetensors", factors)], out, dtype="fp8_e4m3fn")
    merged = samples.load(out)
    assert merged[f"{module}.weight"].dtype == torch.float8_e4m3fn
    for small in (
        f"{module}.bias",
        "text_model.embeddings.token_embedding.weight",
        "text_model.final_layer_norm.weight",
    ):
        assert samples.same_bytes(merged[small], tensors[small])
