"""CogView 4 and GLM-Image: diffusers' names everywhere."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Signature
from .blockgroups import TRANSFORMER_BLOCKS
from .rows import fused

_TIME = "time_condition_embed.timestep_embedder.linear_1.weight"
_FUSED = (fused("transformer_blocks.{i}.attn1."),)

COGVIEW4 = Arch(
    id="cogview4_6b",
    title="CogView 4",
    signatures=(Signature(has=(_TIME, "patch_embed.text_proj.weight", "transformer_blocks.0.attn1.to_q.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks=TRANSFORMER_BLOCKS,
    renames=_FUSED,
)

GLM_IMAGE = Arch(
    id="glm_image",
    title="GLM-Image",
    signatures=(Signature(has=(_TIME, "glyph_projector.net.2.weight", "prior_token_embedding.weight")),),
    prefixes=DIFFUSION_PREFIXES,
    blocks=TRANSFORMER_BLOCKS,
    renames=_FUSED,
)

COGVIEWS = (COGVIEW4, GLM_IMAGE)
