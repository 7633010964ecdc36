"""ACE-Step and ACE-Step 1.5: music."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Rename, Signature
from .blockgroups import TRANSFORMER_BLOCKS

_LAYER = "layers.{i}."

ACE_STEP = Arch(
    id="ace_step",
    title="ACE-Step",
    signatures=(Signature(has=("genre_embedder.weight", "transformer_blocks.0.cross_attn.add_k_proj.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks={**TRANSFORMER_BLOCKS, "lyric": "lyric_encoder.encoders"},
    renames=(
        # what fuse_qkv_projections makes of its attention, which is diffusers'
        Rename(
            tuple(f"transformer_blocks.{{i}}.attn.to_{part}" for part in "qkv"), "transformer_blocks.{i}.attn.to_qkv"
        ),
    ),
    text_encoders={"umt5base": ("te", "te1")},
)

_PARTS = (
    ("q_proj", "to_q"),
    ("k_proj", "to_k"),
    ("v_proj", "to_v"),
    ("o_proj", "to_out.0"),
    ("q_norm", "norm_q"),
    ("k_norm", "norm_k"),
)
_SUBTREES = ("layers", "time_embed", "time_embed_r", "proj_in", "proj_out")

ACE_STEP_15 = Arch(
    id="ace_step_1.5",
    title="ACE-Step 1.5",
    signatures=(Signature(has=("decoder.layers.0.cross_attn.q_proj.weight", "decoder.time_embed_r.time_proj.weight")),),
    others=(Signature(has=("layers.0.cross_attn.to_q.weight", "time_embed_r.time_proj.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks={
        "blocks": "decoder.layers",
        "lyric": "encoder.lyric_encoder.layers",
        "timbre": "encoder.timbre_encoder.layers",
    },
    renames=(
        # trainers and diffusers hold the decoder alone
        *(Rename(f"decoder.{subtree}.{{rest}}", f"{subtree}.{{rest}}") for subtree in _SUBTREES),
        *(Rename(f"decoder.{name}", name) for name in ("condition_embedder", "norm_out", "scale_shift_table")),
        *(
            Rename(f"{_LAYER}{attention}.{here}", f"{_LAYER}{attention}.{there}")
            for attention in ("self_attn", "cross_attn")
            for here, there in _PARTS
        ),
        Rename("proj_in.1", "proj_in_conv"),
        Rename("proj_out.1", "proj_out_conv"),
    ),
    text_encoders={"qwen3_06b_ace_step_1.5_2b": ("te", "te1"), "qwen3_2b": ("te2",)},
)

ACE_STEPS = (ACE_STEP, ACE_STEP_15)
