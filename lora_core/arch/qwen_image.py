"""Qwen-Image: the makers' names are diffusers' names, with split attention."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Mark, Rename, Signature
from .blockgroups import TRANSFORMER_BLOCKS

_ATTENTION = "transformer_blocks.{i}.attn."

QWEN_IMAGE = Arch(
    id="qwen_image",
    title="Qwen-Image",
    signatures=(
        Signature(
            has=("transformer_blocks.0.img_mod.1.weight", "img_in.weight"),
            shapes={"txt_norm.weight": (3584,)},
        ),
    ),
    prefixes=DIFFUSION_PREFIXES,
    blocks=TRANSFORMER_BLOCKS,
    renames=(  # diffusers after fuse_qkv_projections
        Rename(tuple(f"{_ATTENTION}to_{part}" for part in "qkv"), f"{_ATTENTION}to_qkv", read_only=True),
        Rename(tuple(f"{_ATTENTION}add_{part}_proj" for part in "qkv"), f"{_ATTENTION}to_added_qkv", read_only=True),
    ),
    text_encoders={"qwen25_7b": ("te", "te1")},
    marks=(
        Mark(
            r"transformer_blocks_[0-5]?\d_attn_(to_([qkv]|qkv|added_qkv|out_0|add_out)|add_[qkv]_proj)$",
            frozenset({3072}),
        ),
        Mark(r"transformer_blocks_[0-5]?\d_(img|txt)_(mod_1|mlp_net_(0_proj|2))$", frozenset({3072, 12288})),
        Mark(r"txt_in$", frozenset({3584})),
    ),
)
