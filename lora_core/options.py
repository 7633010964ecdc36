"""Every input of every node, declared once: the node schema, the command line and the headless runner read it.

Names are permanent: shared workflow files carry them. The order of `inputs` is the order of the widgets, and so
of `widgets_values` in saved workflows: append, never insert.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from .errors import OptionError

Semantics = Literal["paper", "comfyui"]
MergeDtype = Literal["keep", "fp32", "fp16", "bf16", "fp8_e4m3fn", "fp8_e4m3fn_scaled"]
OptionType = Literal["FLOAT", "INT", "BOOLEAN", "COMBO", "STRING", "LORA_FILE", "MODEL_FILE", "ROWS"]
SocketType = Literal["MODEL", "CLIP", "LORA_STACK", "STRING", "IMAGE"]


@dataclass(frozen=True, slots=True)
class Option:
    """One value that a user sets: a widget of a node, a flag of a command, a keyword of a library function."""

    name: str
    type: OptionType
    help: str
    default: Any = None
    low: float | None = None
    high: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    advanced: bool = False

    def check(self, value: Any) -> None:
        """Raise OptionError if `value` is not allowed here."""
        if self.choices and value not in self.choices:
            raise OptionError(f"{self.name}: expected one of {', '.join(self.choices)}; found {value!r}.")
        if self.type in ("INT", "FLOAT"):
            whole = self.type == "INT"
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                raise OptionError(
                    f"{self.name}: expected {'a whole number' if whole else 'a number'}; found {value!r}."
                )
            if not (self.low or 0) <= value <= (self.high if self.high is not None else math.inf):  # NaN fails too
                raise OptionError(f"{self.name}: expected {self.low:g} to {self.high:g}; found {value!r}.")


@dataclass(frozen=True, slots=True)
class Socket:
    """One wire into or out of a node."""

    name: str
    type: SocketType
    help: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """What ComfyUI and the headless runner need to know of a node."""

    id: str
    display_name: str
    description: str
    inputs: tuple[Option | Socket, ...]
    outputs: tuple[Socket, ...]
    is_output: bool = False
    search_aliases: tuple[str, ...] = ()

    @property
    def options(self) -> tuple[Option, ...]:
        return tuple(i for i in self.inputs if isinstance(i, Option))

    def option(self, name: str) -> Option:
        return next(o for o in self.options if o.name == name)


STRENGTH_LIMIT = 100.0  # as in ComfyUI: strengths go from minus this to this

LORA_STACK = Socket("lora_stack", "LORA_STACK", "A stack of LoRAs, applied before this node's own.", optional=True)

LORA_NAME = Option("lora_name", "LORA_FILE", "The LoRA file to apply.", default="None")


def _strength(name: str, help: str) -> Option:
    return Option(name, "FLOAT", help, 1.0, low=-STRENGTH_LIMIT, high=STRENGTH_LIMIT, step=0.01)


STRENGTH_MODEL = _strength("strength_model", "How strongly the LoRA changes the diffusion model; may be negative.")
STRENGTH_CLIP = _strength("strength_clip", "How strongly the LoRA changes the text encoder; may be negative.")
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
CHECKPOINT = Option("checkpoint", "MODEL_FILE", "The checkpoint, diffusion model or text encoder to merge into.")
MERGE_DTYPE = Option(
    "dtype",
    "COMBO",
    "The number format of the written weights; keep leaves each tensor as it is in the input. "
    "fp8_e4m3fn_scaled gives linear layers of the diffusion model a scale each, as ComfyUI does.",
    "keep",
    choices=("keep", "fp32", "fp16", "bf16", "fp8_e4m3fn", "fp8_e4m3fn_scaled"),
)
VERIFY = Option(
    "verify", "BOOLEAN", "Read the written file back and compare every byte before it gets its name.", False
)
MERGE_PREFIX = Option(
    "filename_prefix", "STRING", "Folder and name of the file to write; a number is added.", "loracore/merged"
)

BASE = Option("base", "MODEL_FILE", "The checkpoint that was tuned.")
TUNED = Option("tuned", "MODEL_FILE", "The tuned checkpoint; the LoRA is what changed.")
RANK = Option("rank", "INT", "Rank of every extracted adapter, used when energy is 0.", 32, low=1, high=32768, step=1)
ENERGY = Option(
    "energy",
    "FLOAT",
    "Share of each layer's squared change to keep, for example 0.95; the rank follows from it. 0: use rank.",
    0.0,
    low=0.0,
    high=1.0,
    step=0.01,
)
MAX_RANK = Option("max_rank", "INT", "Upper limit of the rank when energy decides.", 128, low=1, high=32768, step=1)
CONV_RANK = Option(
    "conv_rank",
    "INT",
    "Rank of convolution layers with a kernel above 1x1. 0: as the other layers.",
    0,
    low=0,
    high=32768,
    step=1,
)
DIALECT = Option(
    "dialect",
    "COMBO",
    "Whose key names to write: kohya's or ComfyUI's, which load in ComfyUI, or diffusers' or PEFT's.",
    "kohya",
    choices=("kohya", "comfy", "diffusers", "peft"),
)
EXTRACT_DTYPE = Option(
    "dtype", "COMBO", "The number format of the written factors.", "fp16", choices=("fp16", "bf16", "fp32")
)
EXTRACT_PREFIX = Option(
    "filename_prefix", "STRING", "Folder and name of the file to write; a number is added.", "loracore/extracted"
)

REPORT = Socket("report", "STRING", "What was applied, and what was not and why.")
TRIGGER_WORDS = Socket("trigger_words", "STRING", "Trigger words that the LoRA files name, joined with commas.")

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
    ),
    (
        Socket("MODEL", "MODEL", "The changed diffusion model."),
        Socket("CLIP", "CLIP", "The changed text encoder."),
        REPORT,
        TRIGGER_WORDS,
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
    ),
    (
        Socket("LORA_STACK", "LORA_STACK", "The stack, for Load LoRA, Merge to Checkpoint and other packs."),
        Socket("lora_text", "STRING", "The stack as <lora:name:strength> text."),
        TRIGGER_WORDS,
    ),
    search_aliases=("lora stack", "multi lora", "power lora loader", "lora list"),
)

MERGE = Node(
    "LoraCoreMerge",
    "Merge to Checkpoint",
    "Writes a checkpoint with a stack of LoRAs merged in, streaming from disk to disk.",
    (
        CHECKPOINT,
        Socket("lora_stack", "LORA_STACK", "The LoRAs to merge in."),
        MERGE_PREFIX,
        MERGE_DTYPE,
        SEMANTICS,
        ON_UNMATCHED,
        VERIFY,
    ),
    (Socket("checkpoint_name", "STRING", "The written file's name, as ComfyUI's loaders list it."), REPORT),
    is_output=True,
    search_aliases=("merge lora", "bake lora", "save checkpoint with lora"),
)

EXTRACT = Node(
    "LoraCoreExtract",
    "Extract LoRA",
    "Writes what changed between two checkpoints as a LoRA.",
    (BASE, TUNED, RANK, ENERGY, MAX_RANK, CONV_RANK, DIALECT, EXTRACT_DTYPE, EXTRACT_PREFIX),
    (
        Socket("lora_name", "STRING", "The written file's name, as ComfyUI's loaders list it."),
        REPORT,
        Socket("picture", "IMAGE", "Retained energy of each block, as bars."),
    ),
    is_output=True,
    search_aliases=("extract lora", "lora from checkpoint", "svd"),
)

CONVERT = Node(
    "LoraCoreConvert",
    "Convert LoRA",
    "Writes a LoRA under another dialect's key names, with the same change.",
    (
        Option("lora_name", "LORA_FILE", "The LoRA file to convert.", default="None"),
        Option(
            "dialect",
            "COMBO",
            "Whose key names to write: ComfyUI's, kohya's, diffusers' or PEFT's.",
            "comfy",
            choices=("comfy", "kohya", "diffusers", "peft"),
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
        Option(
            "dtype",
            "COMBO",
            "The number format of the file; keep rounds nothing.",
            "keep",
            choices=("keep", "fp16", "bf16", "fp32"),
        ),
        Option(
            "filename_prefix",
            "STRING",
            "Folder and name of the file to write; a number is added.",
            "loracore/converted",
        ),
        Option(
            "base",
            "MODEL_FILE",
            "The model that the LoRA is for: needed if its names do not tell, and to make DoRA or OFT plain LoRA.",
            "None",
            advanced=True,
        ),
        ON_UNMATCHED,
    ),
    (Socket("lora_name", "STRING", "The written file's name, as ComfyUI's loaders list it."), REPORT),
    is_output=True,
    search_aliases=("convert lora", "lora to diffusers", "lora to kohya", "lora key names", "lokr to lora"),
)

NODES: dict[str, Node] = {node.id: node for node in (LOAD, STACK, MERGE, EXTRACT, CONVERT)}
