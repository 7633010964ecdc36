"""Ideogram 4: one stream of layers; the makers fuse query, key and value, diffusers' names do not."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Rename, Signature
from .blockgroups import LAYERS

_ATTENTION = "layers.{i}.attention."

IDEOGRAM4 = Arch(
    id="ideogram4",
    title="Ideogram 4",
    signatures=(Signature(has=("embed_image_indicator.weight", "layers.0.attention.qkv.weight")),),
    others=(Signature(has=("embed_image_indicator.weight", "layers.0.attention.to_q.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks=LAYERS,
    renames=(
        Rename(f"{_ATTENTION}qkv", tuple(f"{_ATTENTION}to_{part}" for part in "qkv")),
        Rename(f"{_ATTENTION}o", f"{_ATTENTION}to_out.0"),
    ),
    text_encoders={"qwen3_8b": ("te", "te1")},  # the language model of Qwen3-VL 8B
)
