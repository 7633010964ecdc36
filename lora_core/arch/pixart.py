"""PixArt Alpha and Sigma: fused attention in the makers' names, split in diffusers'."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Edition, Rename, Signature
from .blockgroups import BLOCKS

_HERE, _THERE = "blocks.{i}.", "transformer_blocks.{i}."
_EMBEDDERS = (("t", "timestep"), ("csize", "resolution"), ("ar", "aspect_ratio"))

RENAMES = (
    Rename(f"{_HERE}attn.qkv", tuple(f"{_THERE}attn1.to_{part}" for part in "qkv")),
    Rename(f"{_HERE}attn.qkv", f"{_THERE}attn1.to_qkv", read_only=True),  # diffusers after fuse_qkv_projections
    Rename(f"{_HERE}attn.proj", f"{_THERE}attn1.to_out.0"),
    Rename(f"{_HERE}cross_attn.q_linear", f"{_THERE}attn2.to_q"),
    Rename(f"{_HERE}cross_attn.kv_linear", (f"{_THERE}attn2.to_k", f"{_THERE}attn2.to_v")),
    Rename(f"{_HERE}cross_attn.kv_linear", f"{_THERE}attn2.to_kv", read_only=True),
    Rename(f"{_HERE}cross_attn.proj", f"{_THERE}attn2.to_out.0"),
    Rename(f"{_HERE}mlp.fc1", f"{_THERE}ff.net.0.proj"),
    Rename(f"{_HERE}mlp.fc2", f"{_THERE}ff.net.2"),
    Rename(f"{_HERE}scale_shift_table", f"{_THERE}scale_shift_table"),
    *(
        Rename(f"{here}_embedder.mlp.{place}", f"adaln_single.emb.{there}_embedder.linear_{number}")
        for here, there in _EMBEDDERS
        for place, number in ((0, 1), (2, 2))
    ),
    Rename("t_block.1", "adaln_single.linear"),
    Rename("x_embedder.proj", "pos_embed.proj"),
    Rename("y_embedder.y_proj.fc1", "caption_projection.linear_1"),
    Rename("y_embedder.y_proj.fc2", "caption_projection.linear_2"),
    Rename("final_layer.linear", "proj_out"),
    Rename("final_layer.scale_shift_table", "scale_shift_table"),
)

PIXART = Arch(
    id="pixart",
    title="PixArt",
    signatures=(Signature(has=("t_block.1.weight", "blocks.0.cross_attn.kv_linear.weight")),),
    others=(
        Signature(
            has=("adaln_single.linear.weight", "caption_projection.linear_1.weight", "pos_embed.proj.weight"),
            shapes={"transformer_blocks.0.attn2.to_k.weight": (1152,)},
        ),
    ),
    prefixes=DIFFUSION_PREFIXES,
    blocks=BLOCKS,
    renames=RENAMES,
    editions=(
        Edition("pixart_alpha", "PixArt Alpha", Signature(has=("ar_embedder.mlp.0.weight",))),
        Edition("pixart_sigma", "PixArt Sigma", Signature()),
    ),
    text_encoders={"t5xxl": ("te1", "te")},
)
