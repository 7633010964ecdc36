"""Wan 2.1 and 2.2 video models: split attention in both naming styles."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Edition, Mark, Rename, Signature

_ATTENTION = (("self_attn", "attn1"), ("cross_attn", "attn2"))
_PARTS = (
    ("q", "to_q"),
    ("k", "to_k"),
    ("v", "to_v"),
    ("o", "to_out.0"),
    ("norm_q", "norm_q"),
    ("norm_k", "norm_k"),
    ("k_img", "add_k_proj"),
    ("v_img", "add_v_proj"),
    ("norm_k_img", "norm_added_k"),
)

RENAMES = (
    *(
        Rename(f"blocks.{{i}}.{here}.{part}", f"blocks.{{i}}.{there}.{other}")
        for here, there in _ATTENTION
        for part, other in _PARTS
        if here == "cross_attn" or not part.endswith("_img")  # only cross attention sees the image
    ),
    Rename("blocks.{i}.norm3", "blocks.{i}.norm2"),
    Rename("blocks.{i}.ffn.0", "blocks.{i}.ffn.net.0.proj"),
    Rename("blocks.{i}.ffn.2", "blocks.{i}.ffn.net.2"),
    Rename("blocks.{i}.modulation", "blocks.{i}.scale_shift_table"),
    Rename("time_embedding.0", "condition_embedder.time_embedder.linear_1"),
    Rename("time_embedding.2", "condition_embedder.time_embedder.linear_2"),
    Rename("text_embedding.0", "condition_embedder.text_embedder.linear_1"),
    Rename("text_embedding.2", "condition_embedder.text_embedder.linear_2"),
    Rename("time_projection.1", "condition_embedder.time_proj"),
    Rename("img_emb.proj.0", "condition_embedder.image_embedder.norm1"),
    Rename("img_emb.proj.1", "condition_embedder.image_embedder.ff.net.0.proj"),
    Rename("img_emb.proj.3", "condition_embedder.image_embedder.ff.net.2"),
    Rename("img_emb.proj.4", "condition_embedder.image_embedder.norm2"),
    Rename("head.modulation", "scale_shift_table"),
    Rename("head.head", "proj_out"),
)

WAN21 = Arch(
    id="wan21",
    title="Wan 2.1",
    signatures=(
        Signature(
            has=("head.modulation", "head.head.weight", "blocks.0.self_attn.q.weight", "patch_embedding.weight"),
            lacks=("vace_patch_embedding.weight",),
        ),
    ),
    others=(
        Signature(
            has=("blocks.0.attn1.to_q.weight", "condition_embedder.time_proj.weight", "patch_embedding.weight"),
            lacks=("vace_patch_embedding.weight",),
        ),
    ),
    prefixes=DIFFUSION_PREFIXES,
    renames=RENAMES,
    editions=(
        Edition("wan21_i2v_14b", "Wan 2.1 I2V", Signature(has=("img_emb.proj.0.bias",))),
        Edition("wan21_t2v_14b", "Wan 2.1 T2V 14B", Signature(shapes={"head.modulation": (None, None, 5120)})),
        Edition("wan21_t2v_1.3b", "Wan 2.1 T2V 1.3B", Signature(shapes={"head.modulation": (None, None, 1536)})),
    ),
    text_encoders={"umt5xxl": ("te", "te1")},
    marks=(
        Mark(r"blocks_\d+_(self_attn|cross_attn)_([qkvo]$|k_img|v_img|norm)"),
        Mark(r"blocks_\d+_attn[12]_(to_|add_|norm)"),
        Mark(r"blocks_\d+_ffn_(0|2|net)"),
    ),
)
