"""The names by which users address a model's blocks, and the strengths of blocks that are known by a name.

A row leads from a group's name to the modules that the group counts: `double_blocks` stands for `double_blocks.0`,
`double_blocks.1` and so on, of the architecture's own layout. What is in none of a model's groups is its `other`.
"""

from __future__ import annotations

from collections.abc import Mapping

# What pages call a group; a group without a row here is called by its name
GROUP_TITLES = {
    "in": "Input blocks",
    "mid": "Middle block",
    "out": "Output blocks",
    "down": "Down blocks",
    "up": "Up blocks",
    "blocks": "Blocks",
    "double": "Double blocks",
    "single": "Single blocks",
    "joint": "Joint blocks",
    "refiner": "Text refiner",
    "noise": "Noise refiner",
    "context": "Context refiner",
    "reference": "Reference refiner",
    "fusion": "Text fusion",
    "vace": "VACE blocks",
    "face": "Face adapter",
    "nerf": "NeRF blocks",
    "text": "Text blocks",
    "lyric": "Lyric encoder",
    "timbre": "Timbre encoder",
    "adapter": "Text adapter",
    "perceiver": "Perceiver",
    "image": "Image blocks",
    "pixel": "Pixel blocks",
    "other": "All other modules",
    "te": "Text encoders",
}

UNET: Mapping[str, str] = {"in": "input_blocks", "mid": "middle_block", "out": "output_blocks"}
DOUBLE_SINGLE: Mapping[str, str] = {"double": "double_blocks", "single": "single_blocks"}
BLOCKS: Mapping[str, str] = {"blocks": "blocks"}
TRANSFORMER_BLOCKS: Mapping[str, str] = {"blocks": "transformer_blocks"}
LAYERS: Mapping[str, str] = {"blocks": "layers"}

# Presets: the same grammar as users write. Text encoders keep their strength.
# The layers that InstantStyle (arXiv:2404.02733) and IP-Adapter Plus change for style or for composition alone
SD1_PRESETS: Mapping[str, str] = {
    "style": "all=0, te=1, in.1-5=1, out.5-11=1",
    "composition": "all=0, te=1, in.7=0.25, in.8=1",
}
SDXL_PRESETS: Mapping[str, str] = {
    "style": "all=0, te=1, out.1=1",
    "composition": "all=0, te=1, in.8=1",
    "content": "all=0, te=1, out.0=1",  # what B-LoRA (arXiv:2403.14572) trains for content; its style is out.1 too
}
STREAM_PRESETS: Mapping[str, str] = {"no-double": "double=0", "no-single": "single=0"}
