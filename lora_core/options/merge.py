"""Merge to Checkpoint."""

from __future__ import annotations

from typing import Literal

from .base import Node, Option, Socket
from .shared import ON_UNMATCHED, REPORT, SEMANTICS, lora_in_memory, prefix

MergeDtype = Literal["keep", "fp32", "fp16", "bf16", "fp8_e4m3fn", "fp8_e4m3fn_scaled"]

CHECKPOINT = Option(
    "checkpoint", "MODEL_FILE", "The checkpoint, diffusion model or text encoder to merge into.", argument="base"
)
MERGE_DTYPE = Option(
    "dtype",
    "COMBO",
    "The number format of the written weights; keep leaves each tensor as it is in the input. "
    "fp8_e4m3fn_scaled gives linear layers of the diffusion model a scale each, as ComfyUI does.",
    "keep",
    choices=("keep", "fp32", "fp16", "bf16", "fp8_e4m3fn", "fp8_e4m3fn_scaled"),
)
VERIFY = Option(
    "verify",
    "BOOLEAN",
    "Make every tensor a second time and compare it with the written one, bit by bit, before the file gets its name.",
    False,
)

PAIR = Option(
    "pair",
    "COMBO",
    "Which file of a pair of LoRAs (Wan 2.2) goes in: high for the high-noise model, low for the low-noise one.",
    "high",
    choices=("high", "low"),
    advanced=True,
    optional=True,
)

MERGE = Node(
    "LoraCoreMerge",
    "Merge to Checkpoint",
    "Writes a checkpoint with a stack of LoRAs merged in, streaming from disk to disk.",
    (
        CHECKPOINT,
        Socket("lora_stack", "LORA_STACK", "The LoRAs to merge in.", optional=True, argument="loras"),
        prefix("loracore/merged", beside=CHECKPOINT.name),
        MERGE_DTYPE,
        SEMANTICS,
        ON_UNMATCHED,
        VERIFY,
        PAIR,
        lora_in_memory("; merged in last, at strength 1", argument="loras"),
    ),
    (Socket("checkpoint_name", "STRING", "The written file's name, as ComfyUI's loaders list it."), REPORT),
    is_output=True,
    search_aliases=("merge lora", "bake lora", "save checkpoint with lora"),
)
