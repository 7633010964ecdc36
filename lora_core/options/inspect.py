"""Inspect LoRAs."""

from __future__ import annotations

from .base import Node, Option, Socket
from .shared import NO_FILE, REPORT, TRIGGER_WORDS, lora_to

AGAINST = Option(
    "against", "MODEL_FILE", "A model to match the LoRAs with, and to compare their size with its weights.", NO_FILE
)

INSPECT = Node(
    "LoraCoreInspect",
    "Inspect LoRA",
    "Shows what a LoRA changes, block by block, and where the LoRAs of a stack reinforce or cancel each other.",
    (
        lora_to("inspect", argument="loras"),
        AGAINST,
        Socket(
            "lora_stack", "LORA_STACK", "More LoRAs; the conflict map compares all.", optional=True, argument="loras"
        ),
    ),
    (
        REPORT,
        TRIGGER_WORDS,
        Socket("picture", "IMAGE", "Size, effective rank and spectrum of each block."),
        Socket("conflict_map", "IMAGE", "How the LoRAs of the stack agree, block by block."),
    ),
    is_output=True,
    search_aliases=("inspect lora", "lora info", "lora analysis", "lora conflict", "lora similarity"),
)
