"""Resize LoRA: writes a LoRA at a lower rank."""

from __future__ import annotations

from typing import Any

from ..lora_core.errors import OptionError
from ..lora_core.options import RESIZE
from ..lora_core.options.shared import NO_FILE
from . import operation
from .host import io
from .pictures.energychart import energy_picture
from .schema import schema_of, shown


class ResizeLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema_of(RESIZE)

    @classmethod
    def validate_inputs(cls, lora_name: str | None = None, base: str | None = None, lora: Any = NO_FILE) -> bool | str:
        is_wired = lora != NO_FILE  # what is wired is not known yet, and None here
        if lora_name == NO_FILE and not is_wired:
            return "lora_name: choose the LoRA to resize."
        if lora_name not in (NO_FILE, None) and is_wired:
            return "lora_name: a LoRA is wired too; choose None here, or take the wire away."
        return operation.problem((lora_name,), (base,))

    @classmethod
    def fingerprint_inputs(cls, lora_name: str | None = None, base: str | None = None, **_: Any) -> list[Any]:
        return operation.fingerprint((lora_name,), (base,))

    @classmethod
    def execute(cls, lora_name: str, lora: Any = None, **inputs: Any) -> io.NodeOutput:
        if lora is not None and lora_name != NO_FILE:  # a wired name is known only now
            raise OptionError(f"lora_name: {lora_name} and a LoRA in memory are both wired; take one wire away.")
        inputs |= {"lora_name": lora_name, "lora": lora}
        done = operation.performed(RESIZE, inputs, "resizing", "writing")
        picture = energy_picture(done.report)
        return io.NodeOutput(*done.texts, picture, ui=shown(cls, done.report, picture))


NODES = [ResizeLora]
