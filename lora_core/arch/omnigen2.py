"""OmniGen2: one naming everywhere, with split query, key, value."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Mark, Rename, Signature
from .blockgroups import LAYERS

_BLOCKS = ("layers", "noise_refiner", "ref_image_refiner", "context_refiner")

# trained on fused projections
RENAMES = tuple(
    Rename(tuple(f"{block}.{{i}}.attn.to_{part}" for part in "qkv"), f"{block}.{{i}}.attn.to_qkv", read_only=True)
    for block in _BLOCKS
)

_BLOCK = rf"({'|'.join(_BLOCKS)})_\d+_"

OMNIGEN2 = Arch(
    id="omnigen2",
    title="OmniGen2",
    signatures=(
        Signature(
            has=(
                "time_caption_embed.timestep_embedder.linear_1.bias",
                "ref_image_refiner.0.attn.to_q.weight",
                "ref_image_patch_embedder.weight",
            )
        ),
    ),
    prefixes=DIFFUSION_PREFIXES,
    blocks={**LAYERS, "noise": "noise_refiner", "context": "context_refiner", "reference": "ref_image_refiner"},
    renames=RENAMES,
    text_encoders={"qwen25_3b": ("te", "te1")},
    marks=(
        Mark(r"ref_image_(refiner_\d+|patch_embedder)"),
        Mark(_BLOCK + r"attn_to_(q|k|v|qkv|out_0)$", frozenset({2520})),
        Mark(_BLOCK + r"feed_forward_linear_[123]$", frozenset({2520, 10240})),
    ),
)
