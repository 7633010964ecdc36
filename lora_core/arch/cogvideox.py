"""CogVideoX: ComfyUI's names and diffusers' name the same modules one for one."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Edition, Rename, Signature
from .blockgroups import BLOCKS

_HERE, _THERE = "blocks.{i}.", "transformer_blocks.{i}."
_PARTS = (
    ("q", "attn1.to_q"),
    ("k", "attn1.to_k"),
    ("v", "attn1.to_v"),
    ("attn_out", "attn1.to_out.0"),
    ("norm_q", "attn1.norm_q"),
    ("norm_k", "attn1.norm_k"),
    ("norm1.{rest}", "norm1.{rest}"),
    ("norm2.{rest}", "norm2.{rest}"),
    ("ff_proj", "ff.net.0.proj"),
    ("ff_out", "ff.net.2"),
)

RENAMES = (
    *(Rename(f"{_HERE}{here}", f"{_THERE}{there}") for here, there in _PARTS),
    # diffusers after fuse_qkv_projections
    Rename((f"{_HERE}q", f"{_HERE}k", f"{_HERE}v"), f"{_THERE}attn1.to_qkv"),
    Rename("time_embedding_linear_1", "time_embedding.linear_1"),
    Rename("time_embedding_linear_2", "time_embedding.linear_2"),
    Rename("ofs_embedding_linear_1", "ofs_embedding.linear_1"),
    Rename("ofs_embedding_linear_2", "ofs_embedding.linear_2"),
)


def _inputs(name: str, title: str, channels: int) -> Edition:
    return Edition(name, title, Signature(shapes={"patch_embed.proj.weight": (3072, channels)}))


COGVIDEOX = Arch(
    id="cogvideox",
    title="CogVideoX",
    signatures=(
        Signature(has=("blocks.0.norm1.linear.weight", "blocks.0.attn_out.weight", "patch_embed.text_proj.weight")),
    ),
    others=(
        Signature(
            has=(
                "transformer_blocks.0.norm1.linear.weight",
                "transformer_blocks.0.attn1.to_q.weight",
                "patch_embed.text_proj.weight",
            ),
            lacks=("time_condition_embed.timestep_embedder.linear_1.weight",),  # CogView 4
        ),
    ),
    prefixes=DIFFUSION_PREFIXES,
    blocks=BLOCKS,
    renames=RENAMES,
    editions=(
        Edition("cogvideox_1.5_5b_i2v", "CogVideoX 1.5 I2V", Signature(has=("ofs_embedding_linear_1.weight",))),
        _inputs("cogvideox_5b_i2v", "CogVideoX 5B I2V", 32),
        _inputs("cogvideox_fun_5b_inpaint", "CogVideoX-Fun 5B", 48),
        Edition("cogvideox_2b", "CogVideoX 2B", Signature(shapes={"norm_final.weight": (1920,)})),
        Edition("cogvideox_5b", "CogVideoX 5B", Signature(shapes={"norm_final.weight": (3072,)})),
    ),
    text_encoders={"t5xxl": ("te1", "te")},
)
