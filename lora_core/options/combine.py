"""Combine LoRAs."""

from __future__ import annotations

from .base import Node, Option, Socket
from .ranks import ENERGY, MAX_RANK, RANK_BY, THRESHOLD
from .shared import DIALECT, KEPT_DTYPE, LORA_NAME_OUT, ON_UNMATCHED, REPORT, model_of_lora, prefix

# Experimental: no study of image LoRAs shows that they are better than the sum
DENSE_METHODS = ("ties", "dare_linear", "dare_ties", "magnitude_prune")
CORE_METHODS = ("core_ties", "core_dare_linear", "core_dare_ties", "core_magnitude_prune", "core_tsv")

METHOD = Option(
    "method",
    "COMBO",
    "sum: exactly what the stack does. All others are experimental: ties, dare and magnitude_prune on the changes "
    "themselves, layer by layer; core_… the same in the space that the LoRAs span: quicker, and not the same method; "
    "core_tsv makes the LoRAs' singular vectors orthogonal to each other.",
    "sum",
    choices=("sum", *DENSE_METHODS, *CORE_METHODS),
)
COMBINED_RANK = Option(
    "rank",
    "INT",
    "Highest rank of the result. 0: as high as it takes to be exact; for what has no exact rank, up to max_rank.",
    0,
    low=0,
    high=32768,
    step=1,
)
DENSITY = Option(
    "density",
    "FLOAT",
    "Share of the entries that ties, dare and magnitude_prune keep.",
    0.5,
    low=0.0,
    high=1.0,
    step=0.01,
    advanced=True,
)
SIGN = Option(
    "sign",
    "COMBO",
    "How ties elects a sign: weighted (the paper's, strengths count), total (PEFT's) or frequency (a vote each).",
    "weighted",
    choices=("weighted", "total", "frequency"),
    advanced=True,
)
SEED = Option("seed", "INT", "What dare draws from; kept in the file.", 0, low=0, high=2**31 - 1, step=1, advanced=True)

COMBINE = Node(
    "LoraCoreCombine",
    "Combine LoRAs",
    "Writes a stack of LoRAs as one LoRA.",
    (
        Socket("lora_stack", "LORA_STACK", "The LoRAs to combine, each at its strength.", argument="loras"),
        METHOD,
        COMBINED_RANK,
        ENERGY,
        MAX_RANK,
        RANK_BY,
        THRESHOLD,
        DENSITY,
        SIGN,
        SEED,
        DIALECT,
        KEPT_DTYPE,
        prefix("loracore/combined"),
        model_of_lora("needed if their names do not tell, and for DoRA or OFT in the stack"),
        ON_UNMATCHED,
    ),
    (LORA_NAME_OUT, REPORT, Socket("picture", "IMAGE", "Energy against rank, and what each block keeps.")),
    is_output=True,
    search_aliases=("combine loras", "merge loras", "lora ties", "lora dare", "join loras"),
)
