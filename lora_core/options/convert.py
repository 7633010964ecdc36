"""Convert LoRA."""

from __future__ import annotations

from .base import Node, Option
from .shared import KEPT_DTYPE, LORA_NAME_OUT, ON_UNMATCHED, REPORT, WRITTEN_DIALECTS, lora_to, model_of_lora, prefix

CONVERT = Node(
    "LoraCoreConvert",
    "Convert LoRA",
    "Writes a LoRA under another dialect's key names, with the same change.",
    (
        lora_to("convert"),
        Option(
            "dialect",
            "COMBO",
            "Whose key names to write: ComfyUI's, kohya's, diffusers' or PEFT's.",
            "comfy",
            choices=("comfy", *(dialect for dialect in WRITTEN_DIALECTS if dialect != "comfy")),
        ),
        Option(
            "kind",
            "COMBO",
            "keep leaves LoHa, LoKr, DoRA and the others what they are; lora makes them plain LoRA.",
            "keep",
            choices=("keep", "lora"),
        ),
        Option(
            "rank",
            "INT",
            "Highest rank of what becomes plain LoRA; the report says how exact it is. 0: as high as it takes.",
            0,
            low=0,
            high=32768,
            step=1,
        ),
        KEPT_DTYPE,
        prefix("loracore/converted"),
        model_of_lora("needed if its names do not tell, and to make DoRA or OFT plain LoRA"),
        ON_UNMATCHED,
    ),
    (LORA_NAME_OUT, REPORT),
    is_output=True,
    search_aliases=("convert lora", "lora to diffusers", "lora to kohya", "lora key names", "lokr to lora"),
)
