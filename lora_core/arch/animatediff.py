"""AnimateDiff's motion module: layers along the time, which custom nodes put into Stable Diffusion 1.5."""

from __future__ import annotations

from .base import DIFFUSION_PREFIXES, Arch, Rename, Signature
from .rows import renamed_below

_BLOCKS = ("down_blocks.{i}.", "up_blocks.{i}.", "mid_block.")
_INSIDE = ("norm", "proj_in", "proj_out")
_HERE = "motion_modules.{j}.temporal_transformer."
_PARTS = ("to_q", "to_k", "to_v", "to_out.0")


def _module(block: str) -> tuple[Rename, ...]:
    here, there = f"{block}{_HERE}", f"{block}motion_modules.{{j}}."
    layer, other = f"{here}transformer_blocks.0.", f"{there}transformer_blocks.0."
    return (
        *renamed_below(here, there, *_INSIDE),
        *(
            Rename(f"{layer}attention_blocks.{n}.{part}", f"{other}attn{n + 1}.{part}")
            for n in (0, 1)
            for part in _PARTS
        ),
        *(  # the processors of the makers' LoRA files
            Rename(f"{layer}attention_blocks.{n}.{part}", f"{layer}attention_blocks.{n}.processor.{name}")
            for n in (0, 1)
            for part, name in zip(_PARTS, ("to_q", "to_k", "to_v", "to_out"), strict=True)
        ),
        *renamed_below(layer, other, ("norms.0", "norm1"), ("norms.1", "norm2"), ("ff_norm", "norm3")),
        *renamed_below(layer, other, "ff.net.0.proj", "ff.net.2"),
    )


_FIRST = "down_blocks.0.motion_modules.0."

ANIMATEDIFF = Arch(
    id="animatediff_motion_v2",
    title="AnimateDiff motion module",
    signatures=(Signature(has=(f"{_FIRST}temporal_transformer.proj_in.weight",)),),
    others=(Signature(has=(f"{_FIRST}proj_in.weight", f"{_FIRST}transformer_blocks.0.attn1.to_q.weight")),),
    prefixes=("module.", *DIFFUSION_PREFIXES),
    blocks={"down": "down_blocks", "up": "up_blocks"},
    renames=tuple(row for block in _BLOCKS for row in _module(block)),
    diffusers_name="unet",
)
