"""HiDream I1: the makers, diffusers and ComfyUI share one naming."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Mark, Rename, Signature
from .blockgroups import STREAM_PRESETS

# trained on fused projections
RENAMES = tuple(
    Rename(tuple(f"{at}to_{part}" for part in "qkv"), f"{at}to_qkv", read_only=True)
    for at in ("double_stream_blocks.{i}.block.attn1.", "single_stream_blocks.{i}.block.attn1.")
)

HIDREAM_I1 = Arch(
    id="hidream_i1",
    title="HiDream I1",
    signatures=(
        Signature(
            has=(
                "caption_projection.0.linear.weight",
                "double_stream_blocks.0.block.attn1.to_q_t.weight",
                "single_stream_blocks.0.block.attn1.to_q.weight",
            )
        ),
    ),
    prefixes=DIFFUSION_PREFIXES,
    blocks={"double": "double_stream_blocks", "single": "single_stream_blocks"},
    block_presets=STREAM_PRESETS,
    renames=RENAMES,
    text_encoders={"clip_l": ("te1", "te"), "clip_g": ("te2",), "t5xxl": ("te3",), "llama_hidream_i1": ("te4",)},
    marks=(Mark(r"(double|single)_stream_blocks_\d+_block_"),),
)
