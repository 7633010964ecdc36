"""Stable Cascade: files fuse query, key, value; trainers, ComfyUI and diffusers split them."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Rename, Signature

_SPLIT = ("to_q", "to_k", "to_v")


def _attention(blocks: str) -> tuple[Rename, ...]:
    here = f"{blocks}.{{i}}.{{j}}.attention."
    return (
        Rename(f"{here}attn.in_proj", tuple(f"{here}attn.{part}" for part in _SPLIT)),
        Rename(f"{here}attn.in_proj", tuple(here + part for part in _SPLIT)),
        Rename(f"{here}attn.in_proj", f"{here}to_qkv", read_only=True),  # diffusers after fuse_qkv_projections
        Rename(f"{here}attn.out_proj", f"{here}to_out.0"),
    )


_ATTENTION = (*_attention("down_blocks"), *_attention("up_blocks"))


def _layouts(first: str, *has: str) -> tuple[Signature, tuple[Signature, ...]]:
    """The signatures by the first attention: in a file; inside ComfyUI and in diffusers."""
    return (
        Signature(has=(f"{first}attention.attn.in_proj_weight", *has)),
        tuple(Signature(has=(f"{first}attention.{query}.weight", *has)) for query in ("attn.to_q", "to_q")),
    )


_C, _C_SPLIT = _layouts("down_blocks.0.2.", "clip_txt_mapper.weight", "clf.1.weight")
_B, _B_SPLIT = _layouts("down_blocks.2.2.", "effnet_mapper.0.weight", "clf.1.weight")

STABLE_CASCADE_C = Arch(
    id="stable_cascade_c",
    title="Stable Cascade C",
    signatures=(_C,),
    others=_C_SPLIT,
    prefixes=DIFFUSION_PREFIXES,
    blocks={"down": "down_blocks", "up": "up_blocks"},
    renames=_ATTENTION,
    text_encoders={"clip_g": ("prior_te", "te", "te1")},
    host_splits=("down_blocks.", "up_blocks."),
)

STABLE_CASCADE_B = Arch(
    id="stable_cascade_b",
    title="Stable Cascade B",
    signatures=(_B,),
    others=_B_SPLIT,
    prefixes=DIFFUSION_PREFIXES,
    blocks={"down": "down_blocks", "up": "up_blocks"},
    renames=(*_ATTENTION, Rename("clip_mapper", "clip_txt_pooled_mapper")),
    text_encoders={"clip_g": ("prior_te", "te", "te1")},
    host_splits=("down_blocks.", "up_blocks."),
)

STABLE_CASCADE = (STABLE_CASCADE_C, STABLE_CASCADE_B)
