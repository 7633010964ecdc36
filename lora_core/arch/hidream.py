"""HiDream I1 and O1: the makers, diffusers and ComfyUI share one naming; O1 is a language model that draws pixels."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Rename, Signature
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
)

# the language model and the eye have no prefix of their own: a file of the makers begins every name with `model.`, and
# some trainers keep that level
HIDREAM_O1 = Arch(
    id="hidream_o1",
    title="HiDream O1",
    signatures=(
        Signature(
            has=("x_embedder.proj1.weight", "final_layer2.linear.weight", "language_model.layers.0.mlp.up_proj.weight")
        ),
    ),
    prefixes=("model.", *DIFFUSION_PREFIXES),
    blocks={"blocks": "language_model.layers"},
    renames=tuple(
        Rename(f"{part}.{{rest}}", f"model.{part}.{{rest}}", read_only=True)
        for part in ("language_model", "visual", "x_embedder", "t_embedder1", "final_layer2")
    ),
)

HIDREAMS = (HIDREAM_I1, HIDREAM_O1)
