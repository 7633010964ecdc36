"""Inspect: headers only, without torch, and what it says in full."""

from __future__ import annotations

from pathlib import Path

import torch

import lora_core
from tests import tiny
from tests.core.samples import python, save, sparse_checkpoint


def test_does_not_need_torch(tmp_path: Path) -> None:
    base = sparse_checkpoint(tmp_path / "sdxl.safetensors", "sdxl")
    lora = tiny.make_lora(tmp_path / "lora.safetensors", {"lora_unet_input_blocks_4_1_proj_in": (640, 640)}, 4, alpha=1)
    code = (
        "import sys, lora_core; "
        f"report = lora_core.inspect({str(lora)!r}, [{str(base)!r}]); "
        "print(report.loras[0].modules_matched, report.loras[0].scale['max'], 'torch' in sys.modules)"
    )
    assert python("-c", code).stdout == "1 0.25 False\n"


def test_lora_alone(tmp_path: Path) -> None:
    named = tiny.flat("lora_unet_", tiny.modules("flux"))
    lora = tiny.make_lora(
        tmp_path / "ink.safetensors", named, 4, alpha=2, metadata={"modelspec.trigger_phrase": "inkwash"}
    )
    report = lora_core.inspect(lora)
    assert report.text() == (
        "ink.safetensors: 23 modules · Flux.1 · LoRA r4 · kohya names · scale 0.5 (alpha 2, tensor)\n"
        "trigger words: inkwash"
    )


def test_checkpoint(tmp_path: Path) -> None:
    report = lora_core.inspect(sparse_checkpoint(tmp_path / "model.safetensors", "sdxl"))
    assert (report.arch, report.title, report.loras) == ("sdxl", "SDXL", [])
    assert report.text() == (
        "SDXL\n"
        "SDXL: 1680 tensors below 'model.diffusion_model.'\n"
        "CLIP-L: 197 tensors below 'conditioner.embedders.0.transformer.'\n"
        "CLIP-G: 390 tensors below 'conditioner.embedders.1.model.'\n"
        "248 other tensors (VAE, buffers)"
    )


def test_against_a_model_and_its_text_encoders(tmp_path: Path) -> None:
    model = sparse_checkpoint(tmp_path / "flux.safetensors", "flux1_dev")
    clip = sparse_checkpoint(tmp_path / "clip_l.safetensors", "te_clip_l")
    t5 = sparse_checkpoint(tmp_path / "t5xxl.safetensors", "te_t5xxl")
    modules = {
        "lora_unet_single_blocks_0_linear2": (3072, 15360),
        "lora_te1_text_model_encoder_layers_0_mlp_fc1": (3072, 768),
        "lora_te3_encoder_block_0_layer_0_SelfAttention_q": (4096, 4096),
        "lora_unet_single_blocks_99_linear2": (3072, 15360),
        "lora_unet_double_blocks_0_img_attn_proj": (3072, 1234),
    }
    lora = tiny.make_lora(tmp_path / "lora.safetensors", modules, 2)
    (alone,) = lora_core.inspect(lora, [model]).loras
    assert (alone.modules_matched, alone.modules_total) == (1, 5)
    assert alone.unmatched == ["lora_unet_single_blocks_99_linear2"]
    assert alone.elsewhere == list(modules)[1:3]
    assert alone.mismatched == [
        {"name": "lora_unet_double_blocks_0_img_attn_proj", "expected": [3072, 3072], "found": [3072, 1234]}
    ]
    report = lora_core.inspect(lora, [model, clip, t5])
    (whole,) = report.loras
    assert (whole.modules_matched, whole.elsewhere) == (3, [])
    assert report.text() == (
        "lora.safetensors: 3/5 · Flux.1 dev · LoRA r2 · kohya names · scale 1 (alpha 2, tensor) · strength 1\n"
        "  1 module without a place here: lora_unet_single_blocks_99_linear2\n"
        "  lora_unet_double_blocks_0_img_attn_proj: expected shape [3072, 3072], found [3072, 1234]"
    )


def test_kinds_are_told_and_what_is_no_adapter_is_named(tmp_path: Path) -> None:
    module = "lora_unet_double_blocks_0_img_attn_proj"
    tensors = {
        f"{module}.lora_up.weight": torch.zeros(3072, 2),
        f"{module}.lora_down.weight": torch.zeros(2, 3072),
        f"{module}.dora_scale": torch.zeros(3072, 1),
        "lora_unet_img_in.lora_up.weight": torch.zeros(3072, 2),
        "lora_unet_img_in.lora_down.weight": torch.zeros(2, 64),
        "bundle_emb.token.clip_l": torch.zeros(1, 768),
    }
    model = sparse_checkpoint(tmp_path / "flux.safetensors", "flux1_dev")
    report = lora_core.inspect(save(tmp_path / "lora.safetensors", tensors), [model])
    assert report.text() == (
        "lora.safetensors: 2/2 · Flux.1 dev · DoRA/LoRA r2 · kohya names · scale 1 (no alpha) · strength 1\n"
        "  1 tensor of no adapter, embedding (textual inversion): bundle_emb.token.clip_l"
    )


def test_foreign_lora_is_reported_not_raised(tmp_path: Path) -> None:
    model = sparse_checkpoint(tmp_path / "flux.safetensors", "flux1_dev")
    module = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"
    lora = tiny.make_lora(tmp_path / "lora.safetensors", {module: (640, 2048)}, 2)
    report = lora_core.inspect(lora, [model])
    assert report.loras[0].modules_matched == 0
    assert report.warnings == ["lora.safetensors: nothing of it fits Flux.1 dev; it looks like SDXL."]
