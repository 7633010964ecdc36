"""ERNIE-Image: one stream of layers; the makers' names are diffusers' names, with split attention."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Rename, Signature
from .blockgroups import LAYERS

_ATTENTION = "layers.{i}.self_attention."

ERNIE_IMAGE = Arch(
    id="ernie_image",
    title="ERNIE-Image",
    signatures=(Signature(has=("layers.0.mlp.linear_fc2.weight", "layers.0.self_attention.to_q.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks=LAYERS,
    renames=(  # diffusers after fuse_qkv_projections
        Rename(tuple(f"{_ATTENTION}to_{part}" for part in "qkv"), f"{_ATTENTION}to_qkv", read_only=True),
    ),
    text_encoders={"ministral3_3b": ("te", "te1")},
)
