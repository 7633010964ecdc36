"""Chroma1-Radiance: Chroma's blocks between pixels; NeRF blocks draw each patch, and there is no latent space."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Rename, Signature
from .blockgroups import DOUBLE_SINGLE, STREAM_PRESETS
from .flux import ATTENTION, FEED_FORWARD
from .flux_kin import DISTILLED_GUIDANCE

CHROMA_RADIANCE = Arch(
    id="chroma_radiance",
    title="Chroma1-Radiance",
    signatures=tuple(
        Signature(
            has=(f"distilled_guidance_layer.norms.0.{scale}", "img_in_patch.weight", f"nerf_blocks.0.norm.{scale}")
        )
        for scale in ("scale", "weight")
    ),
    prefixes=DIFFUSION_PREFIXES,
    blocks={**DOUBLE_SINGLE, "nerf": "nerf_blocks"},
    block_presets=STREAM_PRESETS,
    # diffusers has no such model; what it has in common with Flux.1 and Chroma goes by their names there
    renames=(*ATTENTION, *FEED_FORWARD, *DISTILLED_GUIDANCE, Rename("txt_in", "context_embedder")),
    text_encoders={"t5xxl": ("te1", "te", "te3")},
)
