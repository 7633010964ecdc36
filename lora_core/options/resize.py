"""Resize LoRA."""

from __future__ import annotations

from .base import Node, Socket
from .ranks import CONV_RANK, ENERGY, MAX_RANK, RANK, RESIZE_BY, THRESHOLD
from .shared import KEPT_DTYPE, LORA_NAME_OUT, REPORT, lora_in_memory, lora_to, model_of_lora, prefix

RESIZE = Node(
    "LoraCoreResize",
    "Resize LoRA",
    "Writes a LoRA at a lower rank: the closest one that there is, computed from its factors.",
    (
        lora_to("resize"),
        RANK,
        ENERGY,
        MAX_RANK,
        CONV_RANK,
        RESIZE_BY,
        THRESHOLD,
        KEPT_DTYPE,
        prefix("loracore/resized"),
        model_of_lora("needed where rank_by is relative, and for the closest DoRA"),
        lora_in_memory(", instead of lora_name", argument="file"),
    ),
    (LORA_NAME_OUT, REPORT, Socket("picture", "IMAGE", "Energy against rank, and what each block keeps.")),
    is_output=True,
    search_aliases=("resize lora", "reduce lora rank", "shrink lora", "lora svd"),
)
