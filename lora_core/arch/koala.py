"""KOALA: SDXL's U-Net with one block less on each level."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Edition, Signature
from .blockgroups import UNET
from .unet import ENDS, unet_renames

KOALA = Arch(
    id="koala",
    title="KOALA",
    signatures=(
        Signature(
            has=("input_blocks.0.0.weight",),
            shapes={
                "label_emb.0.0.weight": (None, 2816),
                "input_blocks.3.1.transformer_blocks.0.attn2.to_k.weight": (None, 2048),
            },
        ),
    ),
    others=(
        Signature(
            lacks=("down_blocks.1.resnets.1.conv1.weight",),  # SDXL's levels have two
            shapes={
                "add_embedding.linear_1.weight": (None, 2816),
                "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": (None, 2048),
            },
        ),
    ),
    prefixes=DIFFUSION_PREFIXES,
    blocks=UNET,
    renames=(*unet_renames(levels=3, resnets=1), *ENDS),
    editions=(
        Edition("koala_1b", "KOALA 1B", Signature(has=("middle_block.0.in_layers.0.weight",))),
        Edition("koala_700m", "KOALA 700M", Signature()),
    ),
    text_encoders={"clip_l": ("te1", "te"), "clip_g": ("te2",)},
    kohya_names="here",
    diffusers_name="unet",
)
