"""Lumina 2, Z-Image and their kin: blocks with fused query, key, value; diffusers splits them, and renames more."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Edition, Rename, Signature
from .blockgroups import LAYERS
from .rows import fused

_BLOCKS = ("layers", "noise_refiner", "context_refiner")
_Z_IMAGE_BLOCKS = (*_BLOCKS, "siglip_refiner")
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
    *(row for block in _Z_IMAGE_BLOCKS for row in _attention(block, "attention", sizes=(1, 1, 1))),
)

LUMINA2 = Arch(
    id="lumina2",
    title="Lumina 2",
    signatures=(
        Signature(has=("noise_refiner.0.attention.k_norm.weight",), shapes={"cap_embedder.1.weight": (2304, 2304)}),
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
    editions=(
        Edition("z_image_omni", "Z-Image Omni", Signature(has=("siglip_embedder.1.weight",))),
        Edition("z_image_pixel", "Z-Image in pixel space", Signature(has=("dec_net.cond_embed.weight",))),
    ),
    text_encoders={"qwen3_4b": ("te", "te1")},
)

NEWBIE_IMAGE = Arch(
    id="newbie_image",
    title="NewBie",
    signatures=(
        Signature(
            has=("noise_refiner.0.attention.k_norm.weight", "clip_text_pooled_proj.1.weight"),
            shapes={"cap_embedder.1.weight": (2304, 2560)},
        ),
    ),
    prefixes=DIFFUSION_PREFIXES,
    blocks={**LAYERS, "noise": "noise_refiner", "context": "context_refiner"},
    renames=LUMINA2_RENAMES,
    text_encoders={"gemma3_4b": ("te", "te1"), "jina_clip_2": ("te2",)},
)

BRIA_FIBO2 = Arch(
    id="bria_fibo2",
    title="Bria Fibo 2",
    signatures=(Signature(has=("perceiver.layers.0.cross_attention.to_q.weight", "layers.0.attention.to_q.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks={**LAYERS, "noise": "noise_refiner", "perceiver": "perceiver.layers"},
    renames=(
        *(fused(f"{block}.{{i}}.attention.") for block in ("layers", "noise_refiner")),
        fused("perceiver.layers.{i}.self_attention."),
    ),
)

LUMINAS = (LUMINA2, Z_IMAGE, NEWBIE_IMAGE, BRIA_FIBO2)
