"""Stable Video Diffusion and SV3D: Stable Diffusion 2's U-Net with layers along the time in every block."""

from __future__ import annotations

from dataclasses import replace

from .base import DIFFUSION_PREFIXES, Arch, Edition, Rename, Signature
from .blockgroups import UNET
from .rows import renamed_below
from .unet import ENDS, resnet_rows, transformer_rows, unet_renames


def _resnet(here: str, there: str) -> tuple[Rename, ...]:
    return (
        *resnet_rows(here, f"{there}.spatial_res_block"),
        *(replace(row, read_only=True) for row in resnet_rows(here, there)),  # as Stable Diffusion's, in ComfyUI
        *resnet_rows(f"{here}.time_stack", f"{there}.temporal_res_block"),
        Rename(f"{here}.time_mixer", f"{there}.time_mixer"),
    )


def _transformer(here: str, there: str) -> tuple[Rename, ...]:
    return (
        *transformer_rows(here, there),
        Rename(f"{here}.time_stack.{{rest}}", f"{there}.temporal_transformer_blocks.{{rest}}"),
        *renamed_below(f"{here}.time_pos_embed.", f"{there}.time_pos_embed.", ("0", "linear_1"), ("2", "linear_2")),
        Rename(f"{here}.time_mixer", f"{there}.time_mixer"),
    )


def _size(name: str, title: str, width: int) -> Edition:
    return Edition(name, title, Signature(shapes={"label_emb.0.0.weight": (None, width)}))


SVD = Arch(
    id="svd",
    title="Stable Video Diffusion",
    signatures=(Signature(has=("input_blocks.1.1.time_stack.0.attn1.to_q.weight", "label_emb.0.0.weight")),),
    others=(Signature(has=("down_blocks.0.attentions.0.temporal_transformer_blocks.0.attn1.to_q.weight",)),),
    prefixes=DIFFUSION_PREFIXES,
    blocks=UNET,
    renames=(*unet_renames(4, resnet=_resnet, transformer=_transformer), *ENDS),
    editions=(
        _size("sv3d_u", "SV3D u", 256),
        _size("sv3d_p", "SV3D p", 1280),
        _size("svd_img2vid", "Stable Video Diffusion", 768),
    ),
    diffusers_name="unet",
)
