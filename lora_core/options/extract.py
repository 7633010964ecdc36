"""Extract LoRA."""

from __future__ import annotations

from dataclasses import replace

from .base import Node, Option, Socket
from .ranks import CONV_RANK, ENERGY, MAX_RANK, RANK, RANK_BY, THRESHOLD
from .shared import DIALECT, FACTOR_DTYPE, LORA_NAME_OUT, NO_FILE, REPORT, prefix

BASE = Option("base", "MODEL_FILE", "The checkpoint that was tuned. None: the wired model_base.", NO_FILE)
TUNED = Option(
    "tuned",
    "MODEL_FILE",
    "The tuned checkpoint; the LoRA is what changed. None: the wired model_tuned, or the base with the wired stack.",
    NO_FILE,
)
EXTRACT_KIND = Option(
    "kind",
    "COMBO",
    "lora: the change as it is. dora: LoRA for the directions of the weights, and their magnitudes exactly.",
    "lora",
    choices=("lora", "dora"),
    advanced=True,
)
CLAMP = Option(
    "clamp",
    "FLOAT",
    "kohya's scripts cut the factors' values at this quantile (0.99), which weakens the LoRA. 1: no cut.",
    1.0,
    low=0.5,
    high=1.0,
    step=0.01,
    advanced=True,
)
ESTIMATE = Option(
    "estimate_only", "BOOLEAN", "Tell ranks, retained energy and file size, and write nothing.", False, advanced=True
)

MODEL_BASE = Socket(
    "model_base", "MODEL", "The model that was tuned, instead of a file.", optional=True, argument="base"
)
MODEL_TUNED = Socket(
    "model_tuned", "MODEL", "The tuned model with all its patches, instead of a file.", optional=True, argument="tuned"
)
STACK_OF_ANY_KIND = Socket(
    "lora_stack", "LORA_STACK", "Without a tuned model: LoRAs of any kind, made one LoRA.", optional=True,
    argument="loras",
)  # fmt: skip

EXTRACT = Node(
    "LoraCoreExtract",
    "Extract LoRA",
    "Writes what changed between two models as a LoRA.",
    (
        BASE,
        TUNED,
        RANK,
        ENERGY,
        MAX_RANK,
        CONV_RANK,
        DIALECT,
        FACTOR_DTYPE,
        prefix("loracore/extracted"),
        *(replace(option, optional=True) for option in (RANK_BY, THRESHOLD, EXTRACT_KIND, CLAMP, ESTIMATE)),
        MODEL_BASE,
        MODEL_TUNED,
        STACK_OF_ANY_KIND,
    ),
    (LORA_NAME_OUT, REPORT, Socket("picture", "IMAGE", "Energy against rank, and what each block keeps.")),
    is_output=True,
    search_aliases=("extract lora", "lora from checkpoint", "svd"),
)
