"""Mochi: Genmo's names fuse query, key, value of both streams; diffusers splits them."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Rename, Signature
from .blockgroups import BLOCKS

_HERE, _THERE = "blocks.{i}.", "transformer_blocks.{i}."

RENAMES = (
    Rename(f"{_HERE}attn.qkv_x", tuple(f"{_THERE}attn1.to_{part}" for part in "qkv")),
    Rename(f"{_HERE}attn.qkv_y", tuple(f"{_THERE}attn1.add_{part}_proj" for part in "qkv")),
    # diffusers after fuse_qkv_projections
    Rename(f"{_HERE}attn.qkv_x", f"{_THERE}attn1.to_qkv", read_only=True),
    Rename(f"{_HERE}attn.qkv_y", f"{_THERE}attn1.to_added_qkv", read_only=True),
    Rename(f"{_HERE}attn.proj_x", f"{_THERE}attn1.to_out.0"),
    Rename(f"{_HERE}attn.proj_y", f"{_THERE}attn1.to_add_out"),
    Rename(f"{_HERE}attn.q_norm_x", f"{_THERE}attn1.norm_q"),
    Rename(f"{_HERE}attn.k_norm_x", f"{_THERE}attn1.norm_k"),
    Rename(f"{_HERE}attn.q_norm_y", f"{_THERE}attn1.norm_added_q"),
    Rename(f"{_HERE}attn.k_norm_y", f"{_THERE}attn1.norm_added_k"),
    # Genmo's gate comes second, diffusers' first
    Rename(f"{_HERE}mlp_x.w1", f"{_THERE}ff.net.0.proj", order=(1, 0)),
    Rename(f"{_HERE}mlp_x.w2", f"{_THERE}ff.net.2"),
    Rename(f"{_HERE}mlp_y.w1", f"{_THERE}ff_context.net.0.proj", order=(1, 0)),
    Rename(f"{_HERE}mlp_y.w2", f"{_THERE}ff_context.net.2"),
    Rename(f"{_HERE}mod_x", f"{_THERE}norm1.linear"),
    Rename(f"{_HERE}mod_y", f"{_THERE}norm1_context.linear", chunks=2),
    Rename("blocks.47.mod_y", "transformer_blocks.47.norm1_context.linear_1"),  # the last block only scales
    Rename("x_embedder.proj", "patch_embed.proj"),
    Rename("t_embedder.mlp.0", "time_embed.timestep_embedder.linear_1"),
    Rename("t_embedder.mlp.2", "time_embed.timestep_embedder.linear_2"),
    Rename("t5_y_embedder.{rest}", "time_embed.pooler.{rest}"),
    Rename("t5_yproj", "time_embed.caption_proj"),
    Rename("final_layer.mod", "norm_out.linear", order=(1, 0)),
    Rename("final_layer.linear", "proj_out"),
)

MOCHI = Arch(
    id="mochi",
    title="Mochi",
    signatures=(Signature(has=("t5_yproj.weight", "blocks.0.attn.qkv_x.weight")),),
    others=(Signature(has=("time_embed.caption_proj.weight", "transformer_blocks.0.attn1.add_q_proj.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks=BLOCKS,
    renames=RENAMES,
    text_encoders={"t5xxl": ("te1", "te")},
)
