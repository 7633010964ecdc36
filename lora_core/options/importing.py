"""Import: workflows of other packs as ours, and ours as built-in loaders."""

from __future__ import annotations

from typing import Literal

from .base import Command, Option

ImportTarget = Literal["loracore", "builtin", "builtin-rows"]
TextDialect = Literal["lora-manager", "prompt-control", "easy-use", "a1111"]

TARGET = Option(
    "to",
    "COMBO",
    "loracore: other packs' LoRA nodes and chains of Load LoRA become Stack LoRAs and Load LoRA of this pack. "
    "builtin: these become a chain of ComfyUI's own Load LoRA. builtin-rows: ComfyUI's own Load LoRA (Model) and "
    "Load LoRA (Text Encoder), which have rows and which its newer versions have.",
    "loracore",
    choices=("loracore", "builtin", "builtin-rows"),
)
TEXT_DIALECT = Option(
    "dialect",
    "COMBO",
    "Whose <lora:...> text it is: they read the numbers differently. lora-manager (and rgthree) and prompt-control: "
    "model, then text encoder, as the model's if left out. easy-use: 1 if left out. a1111: text encoder first.",
    "lora-manager",
    choices=("lora-manager", "prompt-control", "easy-use", "a1111"),
)

IMPORT = Command(
    "import", "convert a workflow file from and to other packs' LoRA nodes, or <lora:...> text", (TARGET, TEXT_DIALECT)
)
