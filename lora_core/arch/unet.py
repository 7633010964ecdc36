"""Stable Diffusion's U-Nets: SD 1.5, SD 2.1, SDXL with its distilled sizes, the refiner.

The checkpoint counts blocks through (`input_blocks.4`), diffusers by level and place (`down_blocks.1.resnets.0`).
"""

from __future__ import annotations

from collections.abc import Callable

from .base import DIFFUSION_PREFIXES, Arch, Edition, Rename, Signature
from .blockgroups import SD1_PRESETS, SDXL_PRESETS, UNET

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_TRANSFORMER = ("norm", "proj_in", "proj_out", "transformer_blocks.{rest}")


def resnet_rows(here: str, there: str) -> tuple[Rename, ...]:
    return tuple(Rename(f"{here}.{part}", f"{there}.{other}") for part, other in _RESNET.items())


def transformer_rows(here: str, there: str) -> tuple[Rename, ...]:
    own, other = f"{here}.transformer_blocks.{{i}}.", f"{there}.transformer_blocks.{{i}}."
    return (
        *(Rename(f"{here}.{part}", f"{there}.{part}") for part in _TRANSFORMER),
        # the attention processors of diffusers 0.12 to 0.20
        *(
            Rename(f"{own}attn{n}.{part}", f"{other}attn{n}.processor.{processor}", read_only=True)
            for n in (1, 2)
            for part, processor in (("to_q", "to_q"), ("to_k", "to_k"), ("to_v", "to_v"), ("to_out.0", "to_out"))
        ),
        # diffusers after fuse_qkv_projections
        Rename(tuple(f"{own}attn1.to_{part}" for part in "qkv"), f"{other}attn1.to_qkv", read_only=True),
        Rename(tuple(f"{own}attn2.to_{part}" for part in "kv"), f"{other}attn2.to_kv", read_only=True),
    )


Rows = Callable[[str, str], tuple[Rename, ...]]  # of what stands below one name here and another there


def unet_renames(
    levels: int, resnets: int = 2, resnet: Rows = resnet_rows, transformer: Rows = transformer_rows
) -> tuple[Rename, ...]:
    """Return the rows of a U-Net with up to `levels` resolutions and `resnets` blocks in each."""
    rows: list[Rename] = [*resnet("middle_block.0", "mid_block.resnets.0")]
    rows += transformer("middle_block.1", "mid_block.attentions.0")
    rows += resnet("middle_block.2", "mid_block.resnets.1")
    for level in range(levels):
        for place in range(resnets):
            here = f"input_blocks.{1 + level * (resnets + 1) + place}"
            rows += resnet(f"{here}.0", f"down_blocks.{level}.resnets.{place}")
            rows += transformer(f"{here}.1", f"down_blocks.{level}.attentions.{place}")
        here = f"input_blocks.{(level + 1) * (resnets + 1)}"
        rows.append(Rename(f"{here}.0.op", f"down_blocks.{level}.downsamplers.0.conv"))
        for place in range(resnets + 1):
            here = f"output_blocks.{level * (resnets + 1) + place}"
            rows += resnet(f"{here}.0", f"up_blocks.{level}.resnets.{place}")
            rows += transformer(f"{here}.1", f"up_blocks.{level}.attentions.{place}")
        # the upsampler follows the attention where there is one
        rows += (Rename(f"{here}.{place}.conv", f"up_blocks.{level}.upsamplers.0.conv") for place in (1, 2))
        rows.append(Rename(f"{here}.1.conv", f"{here}.2.conv", read_only=True))  # diffusers' name does not tell which
    return tuple(rows)


ENDS = (
    Rename("time_embed.0", "time_embedding.linear_1"),
    Rename("time_embed.2", "time_embedding.linear_2"),
    Rename("label_emb.0.0", "add_embedding.linear_1"),
    Rename("label_emb.0.2", "add_embedding.linear_2"),
    Rename("input_blocks.0.0", "conv_in"),
    Rename("out.0", "conv_norm_out"),
    Rename("out.2", "conv_out"),
)
RENAMES = (*unet_renames(levels=4), *ENDS)

_ONE_CLIP = ("te", "te1")


def _deepest(number: int) -> str:
    return f"input_blocks.7.1.transformer_blocks.{number}.norm1.weight"


def _inputs(name: str, title: str, channels: int) -> Edition:
    return Edition(name, title, Signature(shapes={"input_blocks.0.0.weight": (None, channels)}))


# cross attention in diffusers' naming
_CROSS_0 = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
_CROSS_1 = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"

SD15 = Arch(
    id="sd15",
    title="Stable Diffusion 1.5",
    signatures=(
        Signature(
            has=("input_blocks.0.0.weight",),
            lacks=("label_emb.0.0.weight",),
            shapes={"input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768)},
        ),
    ),
    others=(Signature(lacks=("add_embedding.linear_1.weight",), shapes={_CROSS_0: (320, 768)}),),
    prefixes=DIFFUSION_PREFIXES,
    blocks=UNET,
    block_presets=SD1_PRESETS,
    renames=RENAMES,
    editions=(
        _inputs("sd15_inpaint", "Stable Diffusion 1.5 Inpainting", 9),
        _inputs("sd15_instructpix2pix", "Stable Diffusion 1.5 InstructPix2Pix", 8),
    ),
    text_encoders={"clip_l": _ONE_CLIP},
    kohya_names="there",
    diffusers_name="unet",
)

_SD21_CROSS: dict[str, tuple[int | None, ...]] = {
    "input_blocks.0.0.weight": (320,),
    "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 1024),
}
_IN_TIME = ("input_blocks.1.1.time_stack.0.attn1.to_q.weight",)  # Stable Video Diffusion

SD21 = Arch(
    id="sd21",
    title="Stable Diffusion 2",
    signatures=(
        Signature(lacks=("label_emb.0.0.weight",), shapes=_SD21_CROSS),
        Signature(lacks=_IN_TIME, shapes={**_SD21_CROSS, "label_emb.0.0.weight": (None, 4)}),  # Lotus
    ),
    others=(Signature(lacks=("add_embedding.linear_1.weight",), shapes={_CROSS_0: (320, 1024)}),),
    prefixes=DIFFUSION_PREFIXES,
    blocks=UNET,
    block_presets=SD1_PRESETS,
    renames=RENAMES,
    editions=(
        Edition("lotus_d", "Lotus", Signature(has=("label_emb.0.0.weight",))),
        _inputs("sd2_inpaint", "Stable Diffusion 2 Inpainting", 9),
        _inputs("sd2_depth", "Stable Diffusion 2 Depth", 5),
    ),
    text_encoders={"clip_h": _ONE_CLIP},
    kohya_names="there",
    diffusers_name="unet",
)

SDXL = Arch(
    id="sdxl",
    title="SDXL",
    signatures=(
        Signature(
            has=("input_blocks.0.0.weight",),
            shapes={
                "label_emb.0.0.weight": (None, 2816),
                "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": (None, 2048),
            },
        ),
    ),
    others=(
        Signature(
            has=("down_blocks.1.resnets.1.conv1.weight",),  # KOALA's levels have one
            shapes={"add_embedding.linear_1.weight": (None, 2816), _CROSS_1: (None, 2048)},
        ),
    ),
    prefixes=DIFFUSION_PREFIXES,
    blocks=UNET,
    block_presets=SDXL_PRESETS,
    renames=RENAMES,
    editions=(
        Edition("segmind_vega", "Segmind Vega", Signature(has=(_deepest(1),), lacks=(_deepest(2),))),
        Edition("ssd1b", "SSD-1B", Signature(has=(_deepest(3),), lacks=(_deepest(4),))),
        _inputs("sdxl_inpaint", "SDXL Inpainting", 9),
        _inputs("sdxl_instructpix2pix", "SDXL InstructPix2Pix", 8),
    ),
    text_encoders={"clip_l": ("te1", "te"), "clip_g": ("te2",)},
    kohya_names="here",
    diffusers_name="unet",
)

SDXL_REFINER = Arch(
    id="sdxl_refiner",
    title="SDXL refiner",
    signatures=(
        Signature(
            has=("input_blocks.0.0.weight",),
            shapes={
                "label_emb.0.0.weight": (None, 2560),
                "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": (None, 1280),
            },
        ),
    ),
    others=(Signature(shapes={"add_embedding.linear_1.weight": (None, 2560), _CROSS_1: (None, 1280)}),),
    prefixes=DIFFUSION_PREFIXES,
    blocks=UNET,
    renames=RENAMES,
    text_encoders={"clip_g": _ONE_CLIP},
    kohya_names="here",
    diffusers_name="unet",
)

UNETS = (SD15, SD21, SDXL, SDXL_REFINER)
