"""Options that several nodes have."""

from __future__ import annotations

from typing import Literal, get_args

from .base import Option, Socket

Semantics = Literal["paper", "comfyui"]

STRENGTH_LIMIT = 100.0  # as in ComfyUI: strengths go from minus this to this

LORA_STACK = Socket("lora_stack", "LORA_STACK", "A stack of LoRAs, applied before this node's own.", optional=True)

ON_UNMATCHED = Option(
    "on_unmatched",
    "COMBO",
    "What to do when modules of a LoRA have no place in the model: warn (and stop if none has one), error, or ignore.",
    "warn",
    choices=("warn", "error", "ignore"),
    advanced=True,
)
SEMANTICS = Option(
    "semantics",
    "COMBO",
    "paper: formulas and scales as published. comfyui: as ComfyUI's own loader computes them.",
    "paper",
    choices=("paper", "comfyui"),
    advanced=True,
)

NO_FILE = "None"  # of a list of files: none is chosen

REPORT = Socket("report", "STRING", "What was applied, and what was not and why.")
TRIGGER_WORDS = Socket("trigger_words", "STRING", "Trigger words that the LoRA files name, joined with commas.")

WrittenDialect = Literal["kohya", "comfy", "diffusers", "peft"]
WRITTEN_DIALECTS: tuple[WrittenDialect, ...] = get_args(WrittenDialect)
DIALECT = Option(
    "dialect",
    "COMBO",
    "Whose key names to write: kohya's or ComfyUI's, which load in ComfyUI, or diffusers' or PEFT's.",
    "kohya",
    choices=WRITTEN_DIALECTS,
)
FACTOR_DTYPE = Option(
    "dtype", "COMBO", "The number format of the written factors.", "fp16", choices=("fp16", "bf16", "fp32")
)
KEPT_DTYPE = Option(
    "dtype",
    "COMBO",
    "The number format of the file; keep rounds nothing.",
    "keep",
    choices=("keep", "fp16", "bf16", "fp32"),
)
LORA_NAME_OUT = Socket("lora_name", "STRING", "The written file's name, as ComfyUI's loaders list it.")


def lora_in_memory(what_becomes_of_it: str, *, argument: str = "") -> Socket:
    """Return the input for a LoRA that no file holds."""
    help = f"A LoRA that no file holds, such as ComfyUI's Train LoRA gives{what_becomes_of_it}."
    return Socket("lora", "LORA_MODEL", help, optional=True, argument=argument)


def lora_to(verb: str, *, argument: str = "file") -> Option:
    return Option("lora_name", "LORA_FILE", f"The LoRA file to {verb}.", NO_FILE, argument=argument)


def model_of_lora(why: str) -> Option:
    return Option("base", "MODEL_FILE", f"The model that the LoRA is for: {why}.", NO_FILE, advanced=True)


def prefix(default: str, *, beside: str = "") -> Option:
    """Return where a node writes its file."""
    help = "Folder and name of the file to write; a number is added."
    return Option("filename_prefix", "NEW_FILE", help, default, argument="out", beside=beside)
