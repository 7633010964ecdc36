"""Chroma and LongCat-Image: Flux.1's blocks with another guidance, another text encoder or fewer layers."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Mark, Rename, Signature
from .blockgroups import DOUBLE_SINGLE, STREAM_PRESETS
from .flux import DOUBLE, FEED_FORWARD, MODULATION, SHARED, SINGLE, embedder, marks

_SINGLE = "single_transformer_blocks.0.proj_mlp.weight"
DISTILLED_GUIDANCE = (
    Rename("distilled_guidance_layer.layers.{i}.in_layer", "distilled_guidance_layer.layers.{i}.linear_1"),
    Rename("distilled_guidance_layer.layers.{i}.out_layer", "distilled_guidance_layer.layers.{i}.linear_2"),
)

CHROMA = Arch(
    id="chroma",
    title="Chroma",
    signatures=tuple(
        Signature(has=(f"distilled_guidance_layer.norms.0.{scale}", "img_in.weight", "single_blocks.0.linear1.weight"))
        for scale in ("scale", "weight")
    ),
    others=(Signature(has=("distilled_guidance_layer.layers.0.linear_1.weight", "x_embedder.weight", _SINGLE)),),
    prefixes=DIFFUSION_PREFIXES,
    blocks=DOUBLE_SINGLE,
    block_presets=STREAM_PRESETS,
    renames=(*SHARED, *FEED_FORWARD, *DISTILLED_GUIDANCE),
    text_encoders={"t5xxl": ("te1", "te", "te3")},
    marks=(  # apart from the last, Flux.1 has these too: of some LoRAs nobody can tell which of the two they are for
        *marks(DOUBLE, SINGLE),
        Mark(r"context_embedder$", frozenset({4096})),
        Mark(r"distilled_guidance_layer_"),
    ),
)

LONGCAT_IMAGE = Arch(
    id="longcat_image",
    title="LongCat-Image",
    signatures=tuple(
        Signature(
            has=(f"double_blocks.0.img_attn.norm.key_norm.{scale}", "double_blocks.0.img_mod.lin.weight"),
            lacks=("vector_in.in_layer.weight",),
            shapes={"txt_in.weight": (None, 3584)},
        )
        for scale in ("scale", "weight")
    ),
    others=(
        Signature(
            has=("time_embed.timestep_embedder.linear_1.weight", "x_embedder.weight", _SINGLE),
            shapes={"context_embedder.weight": (None, 3584)},
        ),
    ),
    prefixes=DIFFUSION_PREFIXES,
    blocks=DOUBLE_SINGLE,
    block_presets=STREAM_PRESETS,
    renames=(
        *SHARED,
        *FEED_FORWARD,
        *MODULATION,
        *embedder("time_in", "time_embed.timestep_embedder"),
        *embedder("time_in", "time_text_embed.timestep_embedder", read_only=True),  # as Flux.1 has it
    ),
    text_encoders={"qwen25_7b": ("te", "te1")},
    marks=(  # Flux.1 has all but the last two
        *marks("\\d", "1?\\d"),
        Mark(r"double_blocks_\d_(img|txt)_mod_lin", frozenset({3072})),
        Mark(r"single_blocks_1?\d_modulation_lin", frozenset({3072})),
        Mark(r"transformer_blocks_\d_norm1(_context)?_linear", frozenset({3072})),
        Mark(r"single_transformer_blocks_1?\d_norm_linear", frozenset({3072})),
        Mark(r"(context_embedder|txt_in)$", frozenset({3584})),
        Mark(r"(time_in|time_embed_timestep_embedder)_", frozenset({256, 3072})),
    ),
)

FLUX_KIN = (CHROMA, LONGCAT_IMAGE)
