"""Qwen-Image and its kin, Mage-Flow and Lens: diffusers' names everywhere; Qwen-Image 2.1 fuses its feed-forward."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Edition, Rename, Signature
from .blockgroups import TRANSFORMER_BLOCKS
from .rows import fused, split

_ATTENTION = "transformer_blocks.{i}.attn."
_TWO_STREAMS = (fused(_ATTENTION), fused(_ATTENTION, "add_#_proj", "to_added_qkv"))
_MLP = "transformer_blocks.{i}.img_mlp."

QWEN_IMAGE = Arch(
    id="qwen_image",
    title="Qwen-Image",
    signatures=(
        Signature(
            has=("transformer_blocks.0.img_mod.1.weight", "transformer_blocks.0.txt_mod.1.weight", "img_in.weight"),
            shapes={"txt_norm.weight": (3584,)},
        ),
    ),
    prefixes=DIFFUSION_PREFIXES,
    blocks=TRANSFORMER_BLOCKS,
    renames=_TWO_STREAMS,
    editions=(
        Edition(
            "qwen_image_layered",
            "Qwen-Image Layered",
            Signature(has=("time_text_embed.addition_t_embedding.weight",)),
        ),
    ),
    text_encoders={"qwen25_7b": ("te", "te1")},
)

QWEN_IMAGE_21 = Arch(
    id="qwen_image_2.1",
    title="Qwen-Image 2.1",
    signatures=(Signature(has=("transformer_blocks.0.img_mlp.gate_up.weight", "modulation.1.weight")),),
    others=(Signature(has=("transformer_blocks.0.img_mlp.gate_layer.weight", "modulation.1.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks=TRANSFORMER_BLOCKS,
    renames=(Rename(f"{_MLP}gate_up", (f"{_MLP}gate_layer", f"{_MLP}proj")), fused(_ATTENTION)),
    text_encoders={"qwen3_8b": ("te", "te1")},
)

MAGE_FLOW = Arch(
    id="mage_flow",
    title="Mage-Flow",
    signatures=(
        Signature(
            has=("transformer_blocks.0.img_mod.1.weight", "transformer_blocks.0.txt_mod.1.weight", "img_in.weight"),
            shapes={"txt_norm.weight": (2560,)},
        ),
    ),
    prefixes=DIFFUSION_PREFIXES,
    blocks=TRANSFORMER_BLOCKS,
    renames=_TWO_STREAMS,
    text_encoders={"qwen3vl_4b": ("te", "te1")},
)

LENS = Arch(
    id="lens",
    title="Lens",
    signatures=(Signature(has=("transformer_blocks.0.attn.img_qkv.weight", "txt_norm.0.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks=TRANSFORMER_BLOCKS,
    renames=(  # nobody else has the model; these are the names that split ones have elsewhere
        split(f"{_ATTENTION}img_qkv", _ATTENTION),
        split(f"{_ATTENTION}txt_qkv", _ATTENTION, "add_#_proj"),
    ),
    text_encoders={"gpt_oss_20b": ("te", "te1")},
)

QWEN_IMAGES = (QWEN_IMAGE, QWEN_IMAGE_21, MAGE_FLOW, LENS)
