"""Load LoRA and Stack LoRAs."""

from __future__ import annotations

from typing import Literal

from .base import Node, Option, Socket
from .shared import LORA_STACK, ON_UNMATCHED, REPORT, SEMANTICS, STRENGTH_LIMIT, TRIGGER_WORDS, lora_in_memory

LORA_NAME = Option("lora_name", "LORA_FILE", "The LoRA file to apply.", default="None")


def _strength(name: str, help: str) -> Option:
    return Option(name, "FLOAT", help, 1.0, low=-STRENGTH_LIMIT, high=STRENGTH_LIMIT, step=0.01)


STRENGTH_MODEL = _strength("strength_model", "How strongly the LoRA changes the diffusion model; may be negative.")
STRENGTH_CLIP = _strength("strength_clip", "How strongly the LoRA changes the text encoder; may be negative.")

BLOCKS = Option(
    "blocks",
    "STRING",
    "Strengths for some blocks of the model, for this node's own LoRA: double.0-9=0.5, te=0, or the name of a preset. "
    "Each is a share of the LoRA's strength.",
    "",
    advanced=True,
    optional=True,
)

Apply = Literal["auto", "patch", "live"]

APPLY = Option(
    "apply",
    "COMBO",
    "patch puts LoRAs into the weights. live adds them beside the weights at each step. auto is live for weights that "
    "are stored as codes (fp8, int8, nvfp4, GGUF), where a patch is rounded or made at each use, and patch for others.",
    "patch",
    choices=("auto", "patch", "live"),
    advanced=True,
    optional=True,
)

LOAD = Node(
    "LoraCoreLoad",
    "Load LoRA",
    "Applies a LoRA, a stack of LoRAs, or both to a model and its text encoder.",
    (
        Socket("model", "MODEL", "The diffusion model to change."),
        Socket("clip", "CLIP", "The text encoder to change.", optional=True),
        LORA_NAME,
        STRENGTH_MODEL,
        STRENGTH_CLIP,
        LORA_STACK,
        ON_UNMATCHED,
        SEMANTICS,
        BLOCKS,
        Socket(
            "model_low",
            "MODEL",
            "The low-noise one of two models, as Wan 2.2 has them: it gets the low-noise files of pairs, and all files "
            "that are in no pair.",
            optional=True,
        ),
        lora_in_memory("; applied last, at the strengths of this node"),
        APPLY,
    ),
    (
        Socket("MODEL", "MODEL", "The changed diffusion model."),
        Socket("CLIP", "CLIP", "The changed text encoder."),
        REPORT,
        TRIGGER_WORDS,
        Socket("MODEL_LOW", "MODEL", "The changed low-noise model."),
    ),
    search_aliases=("lora loader", "apply lora", "lora stack apply", "locon"),
)

STACK = Node(
    "LoraCoreStack",
    "Stack LoRAs",
    "A list of LoRAs, each with its own switch and strengths.",
    (
        Option("rows", "ROWS", 'The rows, as {"v": 1, "rows": [...]} or the same as JSON text.'),
        Socket("lora_stack", "LORA_STACK", "Another stack; it comes first.", optional=True),
        lora_in_memory("; it comes last, for LoRA Core's nodes only"),
        Socket("lora_strength", "FLOAT", "The strength of lora; 1 if nothing is wired.", optional=True),
    ),
    (
        Socket("LORA_STACK", "LORA_STACK", "The stack, for Load LoRA, Merge to Checkpoint and other packs."),
        Socket("lora_text", "STRING", "The stack as <lora:name:strength> text."),
        TRIGGER_WORDS,
    ),
    search_aliases=("lora stack", "multi lora", "power lora loader", "lora list"),
)
