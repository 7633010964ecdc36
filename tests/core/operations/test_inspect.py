"""Inspect: headers only, without torch, and what it says in full."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import lora_core
from lora_core.errors import OptionError
from tests import tiny
from tests.core.samples import command, message, python, save, sparse_checkpoint


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


def test_the_command_compares_a_stack(tmp_path: Path) -> None:
    modules = tiny.flat("lora_unet_", tiny.modules("flux"))
    first, second = (tiny.make_lora(tmp_path / f"{seed}.safetensors", modules, seed=seed) for seed in (1, 2))
    done = command("inspect", str(first), "--stack", str(second), "0.5", "2", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert [(lora["strength_model"], lora["strength_clip"]) for lora in report["loras"]] == [(1.0, 1.0), (0.5, 2.0)]
    here = json.loads(json.dumps(lora_core.inspect(first, stack=[(second, 0.5, 2.0)]).to_dict()))
    assert (report["loras"], list(report)) == (here["loras"], list(here))
    assert report["pairs"][0]["cosine"] == pytest.approx(here["pairs"][0]["cosine"])
    wrong = command("inspect", str(first), "--stack", str(second), "much")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == (f"lora-core: --stack {second}: strength must be a number, found 'much'.\n")


def test_the_command_measures_when_asked(tmp_path: Path) -> None:
    lora = tiny.make_lora(tmp_path / "lora.safetensors", tiny.flat("lora_unet_", tiny.modules("flux")))
    plain, measured = (command("inspect", str(lora), *more) for more in ((), ("--spectra",)))
    assert "block by block" not in plain.stdout
    assert measured.stdout.startswith(plain.stdout)
    assert "lora.safetensors, block by block" in measured.stdout


def workflow(tmp_path: Path, **inputs: Any) -> Path:
    nodes = {
        "stack": {"class_type": "LoraCoreStack", "inputs": {"rows": {"v": 1, "rows": [{"name": "b.safetensors"}]}}},
        "inspect": {"class_type": "LoraCoreInspect", "inputs": {"lora_stack": ["stack", 0], **inputs}},
        "picture": {"class_type": "PreviewImage", "inputs": {"images": ["inspect", 2]}},
    }
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(nodes), encoding="utf-8")
    return path


def test_a_workflow_inspects_without_comfyui(tmp_path: Path) -> None:
    modules = tiny.flat("lora_unet_", tiny.modules("flux"))
    for seed, name in enumerate("ab"):
        tiny.make_lora(tmp_path / f"models/loras/{name}.safetensors", modules, seed=seed)
    tiny.make_tiny("flux", tmp_path / "models/checkpoints/flux.safetensors")
    file = workflow(tmp_path, lora_name="a.safetensors", against="flux.safetensors")
    (report,) = lora_core.run(file, models=tmp_path / "models")
    assert (report.operation, [lora.name for lora in report.loras]) == ("inspect", ["a.safetensors", "b.safetensors"])
    assert (len(report.pairs), report.layers[0]["relative_size"] > 0) == (1, True)
    (alone,) = lora_core.run(workflow(tmp_path, lora_name="None"), models=tmp_path / "models")
    assert [lora.name for lora in alone.loras] == ["b.safetensors"]
    nothing = workflow(tmp_path, lora_name="None", lora_stack=None)
    assert message(OptionError, lambda: lora_core.run(nothing, models=tmp_path / "models")) == (
        "node inspect (Inspect LoRA): lora_name: nothing to inspect; choose a LoRA, or wire a stack that holds one."
    )
