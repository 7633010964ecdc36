"""Krea 2: split attention with a gate in both naming styles; the text passes through blocks of its own first.

The modulation of a block is a vector in the makers' files and a table of six rows in diffusers': it has no row here.
"""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Rename, Signature
from .blockgroups import BLOCKS

_BLOCKS = (
    ("blocks.{i}.", "transformer_blocks.{i}."),
    ("txtfusion.layerwise_blocks.{i}.", "text_fusion.layerwise_blocks.{i}."),
    ("txtfusion.refiner_blocks.{i}.", "text_fusion.refiner_blocks.{i}."),
)
_PARTS = (
    ("attn.wq", "attn.to_q"),
    ("attn.wk", "attn.to_k"),
    ("attn.wv", "attn.to_v"),
    ("attn.gate", "attn.to_gate"),
    ("attn.wo", "attn.to_out.0"),
    ("mlp.gate", "ff.gate"),
    ("mlp.up", "ff.up"),
    ("mlp.down", "ff.down"),
)
_NORMS = (
    *(
        (here + part, there + other)
        for here, there in _BLOCKS
        for part, other in (
            ("attn.qknorm.qnorm", "attn.norm_q"),
            ("attn.qknorm.knorm", "attn.norm_k"),
            ("prenorm", "norm1"),
            ("postnorm", "norm2"),
        )
    ),
    ("txtmlp.0", "txt_in.norm"),
    ("last.norm", "final_layer.norm"),
)

RENAMES = (
    *(Rename(here + part, there + other) for here, there in _BLOCKS for part, other in _PARTS),
    *(Rename(here, there) for here, there in _NORMS),
    *(Rename(here, f"{here}.scale", read_only=True) for here, _ in _NORMS),  # the parameter's full name
    # some write the output projection without its place
    *(Rename(f"{here}attn.wo", f"{there}attn.to_out", read_only=True) for here, there in _BLOCKS),
    # diffusers after fuse_qkv_projections
    *(
        Rename(tuple(f"{there}attn.to_{part}" for part in "qkv"), f"{there}attn.to_qkv", read_only=True)
        for _, there in _BLOCKS
    ),
    Rename("first", "img_in"),
    Rename("tmlp.0", "time_embed.linear_1"),
    Rename("tmlp.2", "time_embed.linear_2"),
    Rename("tproj.1", "time_mod_proj"),
    Rename("txtmlp.1", "txt_in.linear_1"),
    Rename("txtmlp.3", "txt_in.linear_2"),
    Rename("txtfusion.projector", "text_fusion.projector"),
    Rename("last.linear", "final_layer.linear"),
    Rename("last.modulation.lin", "final_layer.scale_shift_table"),
)

KREA2 = Arch(
    id="krea2",
    title="Krea 2",
    signatures=(Signature(has=("txtfusion.projector.weight", "blocks.0.attn.wq.weight")),),
    others=(Signature(has=("text_fusion.projector.weight", "transformer_blocks.0.attn.to_gate.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks={**BLOCKS, "fusion": "txtfusion.layerwise_blocks", "refiner": "txtfusion.refiner_blocks"},
    renames=RENAMES,
    text_encoders={"qwen3vl_4b": ("te", "te1")},
)
