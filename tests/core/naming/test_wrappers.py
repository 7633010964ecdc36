"""Names as files in circulation have them, which the exact look-up does not find, on key lists of real models."""

from __future__ import annotations

from functools import cache

import pytest

from lora_core.naming.detection import detect
from lora_core.naming.keymap import KeyMap
from lora_core.naming.wrappers import common_prefixes, without_wrappers
from tests import manifests

BESIDE = {  # what a full LTX-2 file holds beside the model
    "text_embedding_projection.aggregate_embed.weight": (3840, 188160),
    "vae.decoder.conv_in.conv.weight": (1024, 128, 3, 3, 3),
}
QKV = "double_blocks.0.img_attn.qkv.weight"
CONNECTOR = "video_embeddings_connector.transformer_1d_blocks.1"
FOUND = {
    ("flux1_dev", "single_blocks.3.processor.qkv_lora"): ("single_blocks.3.linear1.weight", 0, 9216),
    ("flux1_dev", "single_blocks.3.processor.proj_lora"): ("single_blocks.3.linear2.weight", None, 3072),
    ("flux1_dev", "lora_unet_transformer_blocks_2_attn_to_q_"): ("double_blocks.2.img_attn.qkv.weight", 0, 3072),
    ("flux1_dev", "base_model.model.transformer.transformer_blocks.0.attn.to_k"): (QKV, 3072, 3072),
    ("flux1_dev", "transformer._orig_mod.transformer_blocks.0.attn.to_v"): (QKV, 6144, 3072),
    ("flux2_dev", "sformer_blocks.0.attn.to_k"): (QKV, 6144, 6144),
    ("flux2_dev", "lora_unet_sformer_blocks_0_attn_to_q"): (QKV, 0, 6144),
    ("hunyuan_video", "diffusion_model.double_blocks.0.img_attn_qkv"): (f"model.model.{QKV}", None, 9216),
    ("hunyuan_image_2.1", "lora_unet_double_blocks_0.img_attn_qkv"): (QKV, None, 10752),
    ("wan21_t2v_1.3b", "pipe.dit.blocks.4.self_attn.q"): ("blocks.4.self_attn.q.weight", None, 1536),
    ("sdxl", "unet._orig_mod.mid_block.attentions.0.proj_in"): (
        "model.diffusion_model.middle_block.1.proj_in.weight", None, 1280),
    ("ltx2_19b", "connectors.video_connector.transformer_blocks.1.attn1.norm_q"): (
        f"model.diffusion_model.{CONNECTOR}.attn1.q_norm.weight", None, 3840),
    ("ltx2_19b", "diffusion_model.connectors.video_connector.transformer_blocks.1.ff.net.2"): (
        f"model.diffusion_model.{CONNECTOR}.ff.net.2.weight", None, 3840),
    ("ltx2_19b", "text_embedding_projection.aggregate_embed"): (
        "text_embedding_projection.aggregate_embed.weight", None, 3840),
    ("ltx2_19b", "connectors.text_proj_in"): ("text_embedding_projection.aggregate_embed.weight", None, 3840),
    ("ltx2_19b", "lora_unet_text_embedding_projection_aggregate_embed"): (
        "text_embedding_projection.aggregate_embed.weight", None, 3840),
}  # fmt: skip
NOT_FOUND = [
    ("flux1_dev", "blocks.0.attn.to_q"),
    ("flux1_dev", "text_encoder.transformer_blocks.0.attn.to_q"),
    ("flux1_dev", "transformer_blocks.0.attn.to_q.base_model"),
    ("sdxl", "sformer.mid_block.attentions.0.proj_in"),
    ("ltx2_19b", "connectors.text_proj_out"),
]


@cache
def keymap(arch: str) -> KeyMap:
    shapes = {**manifests.checkpoint(arch).keys, **(BESIDE if arch.startswith("ltx2") else {})}
    return KeyMap((shapes, detect(shapes)))


@pytest.mark.parametrize(("arch", "name"), FOUND)
def test_a_name_in_circulation_has_its_place(arch: str, name: str) -> None:
    (target,) = keymap(arch).find(name)
    assert (target.key, target.start, target.shape[0]) == FOUND[arch, name]


@pytest.mark.parametrize(("arch", "name"), NOT_FOUND)
def test_other_names_have_none(arch: str, name: str) -> None:
    assert keymap(arch).find(name) == ()


def test_a_name_that_is_found_is_read_as_it_is() -> None:
    found = keymap("flux1_dev")
    assert found.look_up("transformer_blocks.0.attn.to_q")[1] == ""
    assert found.look_up("module.transformer_blocks.0.attn.to_q")[1] == "without wrappers"
    assert found.look_up("lora_unet_double_blocks_0.img_attn_qkv")[1] == "with underscores for dots"


def test_wrappers_stand_between_dots_or_underscores() -> None:
    assert without_wrappers("a._orig_mod.b.module.c") == "a.b.c"
    assert without_wrappers("submodule.a") == "submodule.a"
    assert without_wrappers("a_module_b", flat=True) == "a_b"
    assert without_wrappers("base_model.model.model.layers.0") == "model.layers.0"


def test_common_prefixes_end_where_a_name_does() -> None:
    assert list(common_prefixes(["a.b_c.d", "a.b_c.e"])) == ["a.b_c.", "a.b_", "a."]
    assert list(common_prefixes(["a.b", "c.d"])) == [] == list(common_prefixes([]))
