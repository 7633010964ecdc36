"""Lumina 2 and Z-Image: blocks with fused query, key, value; diffusers splits them, and renames most of Lumina 2."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Mark, Rename, Signature
from .blockgroups import LAYERS

_BLOCKS = ("layers", "noise_refiner", "context_refiner")
_Z_IMAGE_PARTS = ("to_q", "to_k", "to_v", "to_out.0", "norm_q", "norm_k")


def _attention(block: str, there: str, sizes: tuple[int, ...]) -> tuple[Rename, ...]:
    here, there = f"{block}.{{i}}.attention.", f"{block}.{{i}}.{there}."
    return (
        Rename(f"{here}qkv", (f"{there}to_q", f"{there}to_k", f"{there}to_v"), sizes=sizes),
        Rename(f"{here}qkv", f"{there}to_qkv", read_only=True),  # trained on fused projections
        Rename(f"{here}out", f"{there}to_out.0"),
        Rename(f"{here}q_norm", f"{there}norm_q"),
        Rename(f"{here}k_norm", f"{there}norm_k"),
    )


def _lumina2_block(block: str) -> tuple[Rename, ...]:
    at = f"{block}.{{i}}."
    modulated = block != "context_refiner"
    return (
        *_attention(block, "attn", sizes=(3, 1, 1)),  # 24 heads of queries, 8 of keys and of values
        # Z-Image's names, which ComfyUI reads for Lumina 2 as well
        *(Rename(f"{at}attn.{part}", f"{at}attention.{part}", read_only=True) for part in _Z_IMAGE_PARTS),
        *(Rename(f"{at}feed_forward.w{n}", f"{at}feed_forward.linear_{n}") for n in (1, 2, 3)),
        *((Rename(f"{at}adaLN_modulation.1", f"{at}norm1.linear"),) if modulated else ()),
        Rename(f"{at}attention_norm1", f"{at}norm1.norm" if modulated else f"{at}norm1"),
        Rename(f"{at}attention_norm2", f"{at}norm2"),
    )


_EDGES = (
    Rename("x_embedder", "all_x_embedder.2-1"),
    Rename("final_layer.{rest}", "all_final_layer.2-1.{rest}"),
)

LUMINA2_RENAMES = (
    *_EDGES,  # Z-Image's too
    *(row for block in _BLOCKS for row in _lumina2_block(block)),
    Rename("t_embedder.mlp.0", "time_caption_embed.timestep_embedder.linear_1"),
    Rename("t_embedder.mlp.2", "time_caption_embed.timestep_embedder.linear_2"),
    Rename("cap_embedder.{rest}", "time_caption_embed.caption_embedder.{rest}"),
    Rename("final_layer.adaLN_modulation.1", "norm_out.linear_1"),
    Rename("final_layer.linear", "norm_out.linear_2"),
)

Z_IMAGE_RENAMES = (
    *_EDGES,
    *(row for block in _BLOCKS for row in _attention(block, "attention", sizes=(1, 1, 1))),
)

_BLOCK = r"(layers|noise_refiner|context_refiner)_\d+_"

LUMINA2 = Arch(
    id="lumina2",
    title="Lumina 2",
    signatures=(
        Signature(has=("noise_refiner.0.attention.k_norm.weight",), shapes={"cap_embedder.1.weight": (2304,)}),
    ),
    others=(
        Signature(
            has=("noise_refiner.0.attn.norm_k.weight",),
            lacks=("ref_image_patch_embedder.weight",),  # OmniGen2
            shapes={"time_caption_embed.caption_embedder.1.weight": (2304,)},
        ),
    ),
    prefixes=DIFFUSION_PREFIXES,
    blocks={**LAYERS, "noise": "noise_refiner", "context": "context_refiner"},
    renames=LUMINA2_RENAMES,
    text_encoders={"gemma2_2b": ("te", "te1")},
    marks=(
        Mark(_BLOCK + r"attention_(qkv|out)$", frozenset({2304})),
        Mark(_BLOCK + r"attn_to_(q|k|v|qkv|out_0)$", frozenset({2304})),
        Mark(_BLOCK + r"feed_forward_(w|linear_)[123]$", frozenset({2304, 9216})),
        Mark(_BLOCK + r"adaLN_modulation_1$", frozenset({1024})),
    ),
)

Z_IMAGE = Arch(
    id="z_image",
    title="Z-Image",
    signatures=(
        Signature(has=("noise_refiner.0.attention.k_norm.weight",), shapes={"cap_embedder.1.weight": (3840,)}),
    ),
    others=(
        Signature(
            has=("noise_refiner.0.attention.norm_k.weight", "all_x_embedder.2-1.weight"),
            shapes={"cap_embedder.1.weight": (3840,)},
        ),
    ),
    prefixes=DIFFUSION_PREFIXES,
    blocks={**LAYERS, "noise": "noise_refiner", "context": "context_refiner"},
    renames=Z_IMAGE_RENAMES,
    text_encoders={"qwen3_4b": ("te", "te1")},
    marks=(
        Mark(_BLOCK + r"attention_(qkv|out|to_q|to_k|to_v|to_qkv|to_out_0)$", frozenset({3840})),
        Mark(_BLOCK + r"feed_forward_w[123]$", frozenset({3840, 10240})),
        Mark(_BLOCK + r"adaLN_modulation_0$", frozenset({256})),
    ),
)
