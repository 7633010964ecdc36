"""Chroma, LongCat-Image, Ovis-Image and Bria Fibo: Flux.1's blocks with other guidance, encoders, or fewer layers."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Rename, Signature
from .blockgroups import DOUBLE_SINGLE, STREAM_PRESETS
from .flux import FEED_FORWARD, MODULATION, SHARED, embedder, linear1
from .rows import fused

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
)

_OVIS_MLP = tuple(
    row
    for stream, there in (("img", "ff"), ("txt", "ff_context"))
    for row in (
        Rename(
            tuple(f"double_blocks.{{i}}.{stream}_mlp.{part}_proj" for part in ("up", "gate")),
            f"transformer_blocks.{{i}}.{there}.net.0.proj",
        ),
        Rename(f"double_blocks.{{i}}.{stream}_mlp.down_proj", f"transformer_blocks.{{i}}.{there}.net.2"),
    )
)

OVIS_IMAGE = Arch(
    id="ovis_image",
    title="Ovis-Image",
    signatures=(Signature(has=("double_blocks.0.img_mlp.gate_proj.weight", "single_blocks.0.linear1.weight")),),
    others=(
        Signature(
            has=("context_embedder_norm.weight", "timestep_embedder.linear_1.weight", "x_embedder.weight", _SINGLE)
        ),
    ),
    prefixes=DIFFUSION_PREFIXES,
    blocks=DOUBLE_SINGLE,
    block_presets=STREAM_PRESETS,
    renames=(
        *SHARED,
        *MODULATION,
        *_OVIS_MLP,
        *linear1("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp", mlp=8),
        Rename("single_blocks.{i}.linear2", "single_transformer_blocks.{i}.proj_out"),
        *embedder("time_in", "timestep_embedder"),
        *embedder("time_in", "time_text_embed.timestep_embedder", read_only=True),  # as Flux.1 has it
        Rename("txt_norm", "context_embedder_norm"),
        Rename("txt_in", "semantic_txt_in", read_only=True),  # the makers
        Rename("txt_norm", "semantic_txt_norm", read_only=True),
    ),
    text_encoders={"qwen3_2b": ("te", "te1")},
)

BRIA_FIBO = Arch(
    id="bria_fibo",
    title="Bria Fibo",
    signatures=(
        Signature(has=("caption_projection.0.linear.weight", "time_embed.timestep_embedder.linear_1.weight", _SINGLE)),
    ),
    prefixes=DIFFUSION_PREFIXES,
    blocks={"double": "transformer_blocks", "single": "single_transformer_blocks"},
    block_presets=STREAM_PRESETS,
    renames=(
        fused("transformer_blocks.{i}.attn."),
        fused("transformer_blocks.{i}.attn.", "add_#_proj", "to_added_qkv"),
        fused("single_transformer_blocks.{i}.attn."),
    ),
)

FLUX_KIN = (CHROMA, LONGCAT_IMAGE, OVIS_IMAGE, BRIA_FIBO)
