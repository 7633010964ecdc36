"""Convert LoRA: writes a LoRA under another dialect's names."""

from __future__ import annotations

from typing import Any

from ..lora_core.options import CONVERT
from ..lora_core.options.shared import NO_FILE
from . import operation
from .host import io
from .schema import schema_of, shown


class ConvertLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema_of(CONVERT)

    @classmethod
    def validate_inputs(cls, lora_name: str | None = None, base: str | None = None) -> bool | str:
        if lora_name == NO_FILE:
            return "lora_name: choose the LoRA to convert."
        return operation.problem((lora_name,), (base,))

    @classmethod
    def fingerprint_inputs(cls, lora_name: str | None = None, base: str | None = None, **_: Any) -> list[Any]:
        return operation.fingerprint((lora_name,), (base,))

    @classmethod
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        done = operation.performed(CONVERT, inputs, "converting", "writing")
        return io.NodeOutput(*done.texts, ui=shown(cls, done.report))


NODES = [ConvertLora]
