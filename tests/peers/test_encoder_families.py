"""Tiny random language models and text encoders of transformers: their PEFT adapters merge into their folders."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn

import lora_core
from lora_core.reading.checkpoint import Checkpoint
from tests.peers.models import assert_same, changed, randomised

# PEFT asks transformers 5 for it by its old name
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

FP32 = 1e-6  # the same sum, in another order

# head sizes and widths differ from one another, so that no two projections can be mistaken
SIZES: dict[str, Any] = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "vocab_size": 96}
HEADS: dict[str, Any] = {
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS: dict[str, Any] = {"num_local_experts": 2}
VISION: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 1, "num_attention_heads": 2}
IMAGE: dict[str, Any] = {"image_size": 28, "patch_size": 14}

# name of transformers' classes, what the configuration says besides, title that lora_core gives
FAMILIES: dict[str, tuple[dict[str, Any], str]] = {
    "Llama": ({}, "Llama-like language model"),
    "Mistral": ({}, "Llama-like language model"),
    "Mixtral": (EXPERTS, "Mixtral"),
    "Qwen2": ({}, "Qwen 2"),
    "Qwen3": ({"head_dim": 16}, "Qwen 3"),
    "Gemma": ({"head_dim": 16}, "Llama-like language model"),
    "Gemma2": ({"head_dim": 16}, "Gemma 2"),
    "Phi3": ({}, "Phi 3"),
    "Olmo2": ({}, "Llama-like language model"),
}


def made(name: str) -> nn.Module:
    options, _ = FAMILIES[name]
    config = getattr(transformers, f"{name}Config")(**SIZES, **HEADS, **options)
    return randomised(getattr(transformers, f"{name}ForCausalLM")(config))


def gemma3() -> nn.Module:
    config = transformers.Gemma3Config(
        text_config=transformers.Gemma3TextConfig(**SIZES, **HEADS, head_dim=16),
        vision_config=transformers.SiglipVisionConfig(**VISION, **IMAGE),
        mm_tokens_per_image=4,
    )
    return randomised(transformers.Gemma3ForConditionalGeneration(config))


def t5() -> nn.Module:
    config = transformers.T5Config(d_model=48, d_ff=80, d_kv=8, num_layers=2, num_heads=4, vocab_size=96)
    return randomised(transformers.T5EncoderModel(config))


def clip(*, with_projection: bool) -> nn.Module:
    config = transformers.CLIPTextConfig(**(SIZES | {"num_attention_heads": 4}), projection_dim=24)
    kind = transformers.CLIPTextModelWithProjection if with_projection else transformers.CLIPTextModel
    return randomised(kind(config))


def matrices(model: nn.Module) -> list[str]:
    """Return every linear layer, the head left out: it may be the embedding too."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and name != "lm_head"]


def adapted(model: nn.Module, folder: Path, **options: Any) -> PeftModel:
    """Save the model as a folder, and beside it a random adapter of all its matrices."""
    model.save_pretrained(folder / "base")
    options = {"r": 3, "lora_alpha": 5, "target_modules": matrices(model)} | options
    wrapped = get_peft_model(model, LoraConfig(**options))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in wrapped.named_parameters():
        if ".lora_" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5)
    wrapped.save_pretrained(folder / "adapter")
    return wrapped


def tensors(folder: Path) -> Mapping[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def merged_as_peft_does(model: nn.Module, folder: Path, **options: Any) -> int:
    """Merge with lora_core and with PEFT; return how many tensors changed, which must be the same."""
    wrapped = adapted(model, folder, **options)
    lora_core.merge(folder / "base", [folder / "adapter"], folder / "merged", on_unmatched="error")
    wrapped.merge_and_unload().save_pretrained(folder / "expected")
    expected = tensors(folder / "expected")
    assert_same(tensors(folder / "merged"), expected, FP32)
    return len(changed(tensors(folder / "base"), expected))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_language_model(name: str, tmp_path: Path) -> None:
    model = made(name)
    count = len(matrices(model))
    assert merged_as_peft_does(model, tmp_path) == count >= 8
    with Checkpoint(tmp_path / "base") as checkpoint:
        assert checkpoint.title == FAMILIES[name][1]


@pytest.mark.parametrize("name", ["gemma3", "t5", "clip", "clip with projection"])
def test_a_text_encoder_or_a_model_that_sees(name: str, tmp_path: Path) -> None:
    models = {"gemma3": gemma3, "t5": t5, "clip": lambda: clip(with_projection=False)}
    model = models.get(name, lambda: clip(with_projection=True))()
    count = len(matrices(model))
    assert merged_as_peft_does(model, tmp_path) == count >= 12


def test_experts_are_plain_matrices(tmp_path: Path) -> None:
    """On disk each expert is a matrix of its own, and older PEFT adapters name them so."""
    made("Mixtral").save_pretrained(tmp_path / "base")
    before = tensors(tmp_path / "base")
    name = "model.layers.1.block_sparse_moe.experts.1.w2"
    up, down = torch.ones(before[f"{name}.weight"].shape[0], 1), torch.ones(1, before[f"{name}.weight"].shape[1])
    lora = tmp_path / "lora.safetensors"
    save_file({f"base_model.model.{name}.lora_A.weight": down, f"base_model.model.{name}.lora_B.weight": up}, lora)
    lora_core.merge(tmp_path / "base", [(lora, 0.5)], tmp_path / "merged", on_unmatched="error")
    after = tensors(tmp_path / "merged")
    assert changed(before, after) == {f"{name}.weight"}
    torch.testing.assert_close(after[f"{name}.weight"], before[f"{name}.weight"] + 0.5)


def test_split_names_on_a_model_that_fuses(tmp_path: Path) -> None:
    """A Llama's adapter and a Phi's fused layers: the pieces are where the model itself takes them from."""
    model = made("Phi3")
    model.save_pretrained(tmp_path / "base")
    weights = model.state_dict()
    for part, rows in {"q": (0, 48), "k": (48, 72), "v": (72, 96)}.items():
        name = f"model.layers.0.self_attn.{part}_proj"
        lora = tmp_path / f"{part}.safetensors"
        factors = {"lora_A.weight": torch.ones(1, 48), "lora_B.weight": torch.ones(rows[1] - rows[0], 1)}
        save_file({f"base_model.model.{name}.{key}": value for key, value in factors.items()}, lora)
        lora_core.merge(tmp_path / "base", [lora], tmp_path / part, on_unmatched="error")
        expected = weights["model.layers.0.self_attn.qkv_proj.weight"].clone()
        expected[slice(*rows)] += 1
        got = tensors(tmp_path / part)["model.layers.0.self_attn.qkv_proj.weight"]
        torch.testing.assert_close(got, expected)
        shutil.rmtree(tmp_path / part)
