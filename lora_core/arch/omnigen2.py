"""OmniGen2, Boogu, which is made from it, and OmniGen: one naming everywhere, with split query, key, value."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Rename, Signature
from .blockgroups import LAYERS
from .rows import fused

_BLOCKS = ("layers", "noise_refiner", "ref_image_refiner", "context_refiner")
_BOOGU_BLOCKS = ("noise_refiner", "ref_image_refiner", "context_refiner", "single_stream_layers")
_BOTH = (
    "time_caption_embed.timestep_embedder.linear_1.bias",
    "ref_image_refiner.0.attn.to_q.weight",
    "ref_image_patch_embedder.weight",
)

OMNIGEN2 = Arch(
    id="omnigen2",
    title="OmniGen2",
    signatures=(Signature(has=(*_BOTH, "layers.0.attn.to_q.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks={**LAYERS, "noise": "noise_refiner", "context": "context_refiner", "reference": "ref_image_refiner"},
    renames=tuple(fused(f"{block}.{{i}}.attn.") for block in _BLOCKS),
    text_encoders={"qwen25_3b": ("te", "te1")},
)

BOOGU = Arch(
    id="boogu",
    title="Boogu-Image",
    signatures=(Signature(has=(*_BOTH, "double_stream_layers.0.img_instruct_attn.processor.img_to_q.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks={
        "double": "double_stream_layers",
        "single": "single_stream_layers",
        "noise": "noise_refiner",
        "context": "context_refiner",
        "reference": "ref_image_refiner",
    },
    renames=(
        *(fused(f"{block}.{{i}}.attn.") for block in _BOOGU_BLOCKS),
        fused("double_stream_layers.{i}.img_self_attn."),
    ),
    text_encoders={"qwen3_8b": ("te", "te1")},
)

OMNIGEN1 = Arch(
    id="omnigen1",
    title="OmniGen",
    signatures=(
        Signature(
            has=(
                "patch_embedding.input_image_proj.weight",
                "layers.0.mlp.gate_up_proj.weight",
                "time_token.linear_1.weight",
            )
        ),
    ),
    prefixes=DIFFUSION_PREFIXES,
    blocks=LAYERS,
    renames=(  # the makers fuse it, as Phi 3 does
        Rename(
            tuple(f"layers.{{i}}.self_attn.to_{part}" for part in "qkv"),
            "layers.{i}.self_attn.qkv_proj",
            read_only=True,
        ),
        Rename("layers.{i}.self_attn.to_out.0", "layers.{i}.self_attn.o_proj", read_only=True),
    ),
)

OMNIGENS = (OMNIGEN2, BOOGU, OMNIGEN1)
