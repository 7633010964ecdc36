"""FLUX.3: one stack of blocks for each kind of picture and one for the text, then a single stream; nothing is fused."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Rename, Signature
from .blockgroups import STREAM_PRESETS
from .rows import fused

_MAKERS = (
    ("attn.to_q", "q_proj"),
    ("attn.to_k", "k_proj"),
    ("attn.to_v", "v_proj"),
    ("attn.to_out.0", "attn_out"),
    ("ff.linear_in", "mlp_in"),
    ("ff.linear_out", "mlp_out"),
)
_BLOCKS = (
    *((f"mode_blocks.{mode}.{{i}}.", f"content_mode_blocks.{mode}.{{i}}.") for mode in ("image", "image_cond")),
    ("txt_mode_blocks.{i}.", "txt_mode_blocks.{i}."),
    ("single_transformer_blocks.{i}.", "single_blocks.{i}."),
)

FLUX3 = Arch(
    id="flux3",
    title="FLUX.3",
    signatures=(Signature(has=("mode_blocks.image.0.attn.to_q.weight", "txt_mode_blocks.0.attn.to_q.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks={
        "image": "mode_blocks.image",
        "reference": "mode_blocks.image_cond",
        "text": "txt_mode_blocks",
        "single": "single_transformer_blocks",
    },
    block_presets={"no-single": STREAM_PRESETS["no-single"]},
    renames=(
        # the makers' names are known of the blocks alone; no file of theirs was seen
        *(Rename(here + own, makers + name, read_only=True) for here, makers in _BLOCKS for own, name in _MAKERS),
        *(fused(f"{here}attn.") for here, _ in _BLOCKS),
    ),
)
