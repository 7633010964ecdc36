"""What lies in the folder of LoRAs and is none: each is refused by its name, with what to do, and never as damaged."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lora_core.errors import LoraError, NotALoraError
from lora_core.reading.lorafile import LoraFile
from lora_core.reading.notloras import ROWS, OtherKind
from tests.core import samples
from tests.manifests import checkpoint

ADVICE = re.compile(r"; (?:put|use|merge|choose|load)\b")


def shaped(*names: str, shape: tuple[int, ...] = (4, 4)) -> dict[str, Tensor]:
    return {name: torch.ones(shape) for name in names}


def blocks(template: str, count: int = 4) -> list[str]:
    return [template.replace("{i}", str(i)) for i in range(count)]


CROSS = "transformer_blocks.0.attn1.to_q"
KINDS: dict[str, tuple[str, dict[str, Tensor]]] = {
    "A1111 embedding": ("textual inversion", shaped("emb_params", shape=(8, 768))),
    "SDXL embedding": ("textual inversion", {**shaped("clip_l", shape=(2, 768)), **shaped("clip_g", shape=(2, 1280))}),
    "diffusers embedding": ("textual inversion", shaped("<my-cat>", shape=(768,))),
    "embedding by its token": ("textual inversion", shaped("ghibli style", shape=(16, 1024))),
    "LLLite": (
        "LLLite",
        shaped(*blocks("lllite_unet_input_blocks_{i}_1_transformer_blocks_0_attn1_to_q.down.0.weight")),
    ),
    "LLLite of a DiT": (
        "LLLite",
        shaped("lllite_dit_blocks_0_attn_q.mid.0.weight", "lllite_conditioning1.conv1.weight"),
    ),
    "control-LoRA": (
        "control-LoRA",
        shaped(
            "lora_controlnet",
            "input_blocks.0.0.weight",
            *blocks("input_blocks.{i}.1.proj_in.up"),
            *blocks("input_blocks.{i}.1.proj_in.down"),
        ),
    ),
    "old ControlNet": (
        "ControlNet",
        shaped("control_model.input_hint_block.0.weight", "control_model.time_embed.0.weight"),
    ),
    "ControlNet without prefix": (
        "ControlNet",
        shaped("input_hint_block.2.bias", "zero_convs.0.0.weight", "time_embed.0.bias"),
    ),
    "diffusers ControlNet": (
        "ControlNet",
        shaped("controlnet_cond_embedding.conv_in.weight", *blocks("controlnet_down_blocks.{i}.weight")),
    ),
    "Flux ControlNet": ("ControlNet", shaped("controlnet_x_embedder.weight", "transformer_blocks.0.attn.to_q.weight")),
    "Z-Image control": ("ControlNet", shaped(*blocks("control_layers.{i}.attention.qkv.weight"))),
    "T2I-Adapter": ("T2I-Adapter", shaped("adapter.conv_in.weight", *blocks("adapter.body.{i}.block1.weight"))),
    "motion module": (
        "motion module",
        shaped(*blocks("down_blocks.{i}.motion_modules.1.temporal_transformer.proj_in.weight")),
    ),
    "IP-Adapter": ("IP-Adapter", shaped("image_proj.proj.weight", *blocks("ip_adapter.{i}.to_k_ip.weight"))),
    "FaceID with its LoRA": (
        "IP-Adapter",
        shaped(
            "image_proj.norm.weight",
            "ip_adapter.0.to_q_lora.down.weight",
            "ip_adapter.0.to_q_lora.up.weight",
            "ip_adapter.1.to_v_ip.weight",
        ),
    ),
    "XLabs IP-Adapter": (
        "IP-Adapter",
        shaped("ip_adapter_proj_model.proj.weight", "double_blocks.0.processor.ip_adapter_double_stream_k_proj.weight"),
    ),
    "PuLID": ("PuLID", shaped("pulid_encoder.proj_out", *blocks("pulid_ca.{i}.to_q.weight"))),
    "hypernetwork": (
        "hypernetwork",
        shaped(*blocks("320.{i}.linear.0.weight", 2), *blocks("768.{i}.linear.1.bias", 2)),
    ),
    "LDM VAE": (
        "VAE",
        shaped(
            "first_stage_model.encoder.conv_in.weight",
            "first_stage_model.decoder.up.0.block.0.conv1.weight",
            "first_stage_model.quant_conv.weight",
        ),
    ),
    "bare VAE": (
        "VAE",
        shaped(
            "encoder.down.0.block.0.norm1.weight",
            "decoder.conv_out.bias",
            "post_quant_conv.weight",
            "decoder.mid.attn_1.q.weight",
        ),
    ),
    "Wan VAE": (
        "VAE",
        shaped(
            "encoder.conv1.weight",
            "decoder.upsamples.0.residual.0.gamma",
            "conv1.weight",
            "decoder.head.0.gamma",
            *blocks("decoder.middle.{i}.weight", 30),
        ),
    ),
    "ESRGAN": ("upscaler", shaped("model.0.weight", *blocks("model.1.sub.{i}.RDB1.conv1.0.weight"))),
    "new ESRGAN": ("upscaler", shaped("conv_first.weight", *blocks("body.{i}.rdb1.conv1.weight"), "conv_last.weight")),
    "SwinIR": ("upscaler", shaped("conv_after_body.weight", "layers.0.residual_group.blocks.0.attn.qkv.weight")),
    "Nunchaku model": (
        "Nunchaku",
        shaped(
            "transformer_blocks.0.qkv_proj.qweight",
            "transformer_blocks.0.qkv_proj.wscales",
            "transformer_blocks.0.qkv_proj.lora_down",
        ),
    ),
    "Nunchaku LoRA": (
        "Nunchaku",
        shaped(*blocks("transformer_blocks.{i}.mlp_fc1.lora_down"), *blocks("transformer_blocks.{i}.mlp_fc1.lora_up")),
    ),
    "Nunchaku LoRA of this year": (
        "Nunchaku",
        shaped(
            *blocks("single_transformer_blocks.{i}.attn.to_out.proj_down"),
            *blocks("single_transformer_blocks.{i}.attn.to_out.proj_up"),
        ),
    ),
    "SingLoRA": ("SingLoRA", shaped(*blocks("base_model.model.layers.{i}.attn.q_proj.lora_A.weight"), shape=(4, 64))),
    "full rank": ("full.rank", shaped(*blocks("transformer.blocks.{i}.attn.to_q.lora_A.weight"), shape=(64, 64))),
    "kohya's names of it": (
        "full.rank",
        shaped(
            *blocks("lora_unet_blocks_{i}_attn_q.lora_down.weight"),
            *blocks("lora_unet_blocks_{i}_attn_q.alpha"),
            shape=(1, 1),
        ),
    ),
    "LoRA-XS": (
        "LoRA-XS",
        shaped(
            *[
                f"base_model.model.layers.0.q_proj.{p}"
                for p in ("lora_A.weight", "lora_B.weight", "default_lora_latent_mapping.weight")
            ]
        ),
    ),
    "soft prompt": ("soft prompt", shaped("prompt_embeddings", shape=(20, 32))),
    "LLaMA-Adapter": (
        "LLaMA-Adapter",
        shaped(
            "base_model.model.model.layers.1.self_attn.adaption_prompt",
            "base_model.model.model.layers.1.self_attn.adaption_gate",
        ),
    ),
    "X-LoRA": (
        "X-LoRA",
        shaped("base_model.model.internal_xlora_classifier.inner.0.weight", "x.lora_A.weight", "x.lora_B.weight"),
    ),
    "Poly": (
        "Poly",
        shaped(
            "base_model.model.q.poly_lora_A",
            "base_model.model.q.poly_lora_B",
            "base_model.model.q.poly_router.module_logits",
        ),
    ),
    "Redux": ("Redux", shaped("redux_down.weight", "redux_up.weight")),
    "GLIGEN": (
        "GLIGEN",
        shaped("position_net.null_positive_feature", "input_blocks.1.1.transformer_blocks.0.fuser.alpha_attn"),
    ),
    "CLIP vision": (
        "CLIP vision",
        shaped(*blocks("vision_model.encoder.layers.{i}.mlp.fc1.weight"), "visual_projection.weight"),
    ),
}


def refused(path: Path) -> str:
    with pytest.raises(NotALoraError) as caught:
        LoraFile(path)
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_named_and_it_is_said_what_to_do(tmp_path: Path, kind: str) -> None:
    named, tensors = KINDS[kind]
    text = refused(samples.save(tmp_path / "file.safetensors", tensors))
    assert re.search(named, text), text
    assert ADVICE.search(text), text
    assert "damaged" not in text
    done = samples.command("inspect", tmp_path / "file.safetensors")
    assert (done.returncode, done.stderr) == (1, f"lora-core: {text}\n")


def test_every_row_was_seen() -> None:
    names = [name for _, tensors in KINDS.values() for name in tensors] + ["state.0.exp_avg"]
    assert [row.what for row in ROWS if not any(row.names.fullmatch(name) for name in names)] == []


PICKLES: dict[str, tuple[str, object]] = {
    "embedding": (
        "textual inversion",
        {"string_to_token": {"*": 265}, "string_to_param": {"*": torch.ones(4, 768)}, "name": "cat", "step": 100},
    ),
    "diffusers embedding": ("textual inversion", {"<cat>": torch.ones(768)}),
    "hypernetwork": (
        "hypernetwork",
        {320: ({"linear.0.weight": torch.ones(2, 2)}, {"linear.0.weight": torch.ones(2, 2)}), "step": 5, "name": "x"},
    ),
    "IP-Adapter": (
        "IP-Adapter",
        {"image_proj": {"proj.weight": torch.ones(2, 2)}, "ip_adapter": {"1.to_k_ip.weight": torch.ones(2, 2)}},
    ),
    "ESRGAN": (
        "upscaler",
        {"params_ema": {"conv_first.weight": torch.ones(2, 2), "body.0.rdb1.conv1.weight": torch.ones(2, 2)}},
    ),
    "optimizer": (
        "optimizer",
        {"state": {0: {"exp_avg": torch.ones(2), "exp_avg_sq": torch.ones(2)}}, "param_groups": [{"lr": 1.0}]},
    ),
}


@pytest.mark.parametrize("kind", PICKLES)
def test_pytorch_files_too(tmp_path: Path, kind: str) -> None:
    named, content = PICKLES[kind]
    torch.save(content, tmp_path / "file.pt")
    text = refused(tmp_path / "file.pt")
    assert re.search(named, text), text
    assert ADVICE.search(text), text


def test_a_numpy_archive_is_named(tmp_path: Path) -> None:
    import numpy as np

    np.savez(tmp_path / "adapters.npz", a=np.ones(2))
    with pytest.raises(LoraError, match=r"is a NumPy archive \(.npz\), which old MLX scripts save; convert it"):
        LoraFile(tmp_path / "adapters.npz")


TYPES = [
    "PROMPT_TUNING",
    "MULTITASK_PROMPT_TUNING",
    "P_TUNING",
    "PREFIX_TUNING",
    "CPT",
    "CARTRIDGE",
    "ADAPTION_PROMPT",
    "POLY",
    "XLORA",
]


@pytest.mark.parametrize("peft_type", [*TYPES, "PeftType.P_TUNING", "prefix_tuning"])
@pytest.mark.parametrize("where", ["beside", "header"])
def test_peft_types_that_change_no_weight(tmp_path: Path, peft_type: str, where: str) -> None:
    """Also where the tensors look like a LoRA's."""
    tensors = shaped("base_model.model.q.lora_A.weight", "base_model.model.q.lora_B.weight")
    metadata = {"lora_adapter_metadata": json.dumps({"transformer.peft_type": peft_type})} if where == "header" else {}
    path = samples.save(tmp_path / "adapter_model.safetensors", tensors, metadata)
    if where == "beside":
        (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": peft_type, "r": 4}))
    text = refused(path)
    assert peft_type.rpartition(".")[2].upper() in text
    assert ADVICE.search(text)


@pytest.mark.parametrize("peft_type", ["SOMETHING_NEW", "LATER"])
def test_other_peft_types_are_named(tmp_path: Path, peft_type: str) -> None:
    samples.save(tmp_path / "adapter_model.safetensors", shaped("base_model.model.q.invented_factor"))
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": peft_type}))
    text = refused(tmp_path)
    assert f"is a PEFT adapter of the type {peft_type}, which this version can't apply; merge it with PEFT" in text


def test_a_lora_with_an_embedding_in_it_stays_a_lora(tmp_path: Path) -> None:
    tensors = shaped(
        "lora_unet_x.lora_up.weight", "lora_unet_x.lora_down.weight", "bundle_emb.cat.clip_l", "emb_params"
    )
    with LoraFile(samples.save(tmp_path / "lora.safetensors", tensors)) as file:
        assert (len(file.adapters), len(file.not_adapters)) == (1, 2)


@given(st.sampled_from([row for row in ROWS if row.beside]), st.data())
def test_what_is_looked_for_at_once_is_in_every_name_of_a_row(row: OtherKind, data: st.DataObject) -> None:
    name = data.draw(st.from_regex(row.names, fullmatch=True, alphabet=st.characters(codec="ascii")))
    assert any(marked in f"\n{name}\n" for marked in row.beside)


@pytest.mark.parametrize("arch", ["sd15", "flux1_dev", "wan21_t2v_1.3b", "z_image", "ltx2_19b", "hunyuan_video"])
def test_names_of_models_are_no_other_kind(arch: str) -> None:
    """A LoRA of every layer of these would have such names before its suffixes."""
    names = [
        key.removesuffix(".weight") + suffix for key in checkpoint(arch).keys for suffix in (".lora_A.weight", ".alpha")
    ]
    for row in (row for row in ROWS if row.beside):
        assert [name for name in names if row.word in name and row.names.fullmatch(name)] == [], row.what
