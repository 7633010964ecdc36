"""Stable Diffusion 3 and 3.5: joint blocks with fused query, key, value; diffusers splits them."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Edition, Rename, Signature

_HERE, _THERE = "joint_blocks.{i}.", "transformer_blocks.{i}."


def _qkv(here: str, *names: str) -> Rename:
    return Rename(f"{_HERE}{here}.qkv", tuple(f"{_THERE}{name}" for name in names))


RENAMES = (
    _qkv("x_block.attn", "attn.to_q", "attn.to_k", "attn.to_v"),
    _qkv("x_block.attn2", "attn2.to_q", "attn2.to_k", "attn2.to_v"),
    _qkv("context_block.attn", "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    # diffusers after fuse_qkv_projections
    Rename(f"{_HERE}x_block.attn.qkv", f"{_THERE}attn.to_qkv", read_only=True),
    Rename(f"{_HERE}x_block.attn2.qkv", f"{_THERE}attn2.to_qkv", read_only=True),
    Rename(f"{_HERE}context_block.attn.qkv", f"{_THERE}attn.to_added_qkv", read_only=True),
    Rename(f"{_HERE}x_block.attn.proj", f"{_THERE}attn.to_out.0"),
    Rename(f"{_HERE}x_block.attn2.proj", f"{_THERE}attn2.to_out.0"),
    Rename(f"{_HERE}context_block.attn.proj", f"{_THERE}attn.to_add_out"),
    Rename(f"{_HERE}x_block.attn.ln_q", f"{_THERE}attn.norm_q"),
    Rename(f"{_HERE}x_block.attn.ln_k", f"{_THERE}attn.norm_k"),
    Rename(f"{_HERE}x_block.attn2.ln_q", f"{_THERE}attn2.norm_q"),
    Rename(f"{_HERE}x_block.attn2.ln_k", f"{_THERE}attn2.norm_k"),
    Rename(f"{_HERE}context_block.attn.ln_q", f"{_THERE}attn.norm_added_q"),
    Rename(f"{_HERE}context_block.attn.ln_k", f"{_THERE}attn.norm_added_k"),
    Rename(f"{_HERE}x_block.mlp.fc1", f"{_THERE}ff.net.0.proj"),
    Rename(f"{_HERE}x_block.mlp.fc2", f"{_THERE}ff.net.2"),
    Rename(f"{_HERE}context_block.mlp.fc1", f"{_THERE}ff_context.net.0.proj"),
    Rename(f"{_HERE}context_block.mlp.fc2", f"{_THERE}ff_context.net.2"),
    Rename(f"{_HERE}x_block.adaLN_modulation.1", f"{_THERE}norm1.linear"),
    Rename(f"{_HERE}context_block.adaLN_modulation.1", f"{_THERE}norm1_context.linear", chunks=6),
    # the last block's context only shifts and scales, and diffusers keeps these two the other way round
    Rename(f"{_HERE}context_block.adaLN_modulation.1", f"{_THERE}norm1_context.linear", chunks=2, order=(1, 0)),
    Rename("x_embedder.proj", "pos_embed.proj"),
    Rename("pos_embed", "pos_embed.pos_embed"),
    Rename("t_embedder.mlp.0", "time_text_embed.timestep_embedder.linear_1"),
    Rename("t_embedder.mlp.2", "time_text_embed.timestep_embedder.linear_2"),
    Rename("y_embedder.mlp.0", "time_text_embed.text_embedder.linear_1"),
    Rename("y_embedder.mlp.2", "time_text_embed.text_embedder.linear_2"),
    Rename("final_layer.adaLN_modulation.1", "norm_out.linear", order=(1, 0)),
    Rename("final_layer.linear", "proj_out"),
)

SD3 = Arch(
    id="sd3",
    title="Stable Diffusion 3",
    signatures=(
        Signature(has=("joint_blocks.0.context_block.attn.qkv.weight", "x_embedder.proj.weight", "pos_embed")),
    ),
    others=(Signature(has=("transformer_blocks.0.attn.add_q_proj.weight", "pos_embed.pos_embed")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks={"joint": "joint_blocks"},
    renames=RENAMES,
    editions=(
        Edition(
            "sd35_medium",
            "Stable Diffusion 3.5 Medium",
            Signature(has=("joint_blocks.0.x_block.attn2.qkv.weight", "joint_blocks.0.x_block.attn.ln_q.weight")),
        ),
        Edition(
            "sd35_large", "Stable Diffusion 3.5 Large", Signature(has=("joint_blocks.0.x_block.attn.ln_q.weight",))
        ),
        Edition("sd3_medium", "Stable Diffusion 3 Medium", Signature()),
    ),
    text_encoders={"clip_l": ("te1", "te"), "clip_g": ("te2",), "t5xxl": ("te3",)},
)
