"""Resize LoRA: writes a LoRA at a lower rank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..lora_core.errors import OptionError
from ..lora_core.options.shared import NO_FILE
from .host import io
from .operation import OperationNode


class ResizeLora(OperationNode):
    CHECKED = ("lora",)

    @classmethod
    def problem(cls, chosen: Mapping[str, Any]) -> bool | str:
        if "lora" not in chosen:
            return super().problem(chosen)
        if chosen.get("lora_name") not in (NO_FILE, None):
            return "lora_name: a LoRA is wired too; choose None here, or take the wire away."
        return super().problem({**chosen, "lora_name": None})

    @classmethod
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        name = inputs["lora_name"]
        if inputs.get("lora") is not None and name != NO_FILE:  # a wired name is known only now
            raise OptionError(f"lora_name: {name} and a LoRA in memory are both wired; take one wire away.")
        return super().execute(**inputs)
