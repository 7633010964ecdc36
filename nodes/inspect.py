"""Inspect LoRA: what LoRAs change, block by block, and how those of a stack agree."""

from __future__ import annotations

from typing import Any

from ..lora_core.options import INSPECT
from . import operation
from .host import io
from .pictures.conflictmap import conflict_picture
from .pictures.sizechart import sizes_picture
from .schema import schema_of, shown


class InspectLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema_of(INSPECT)

    @classmethod
    def validate_inputs(cls, lora_name: str | None = None, against: str | None = None) -> bool | str:
        return operation.problem((lora_name,), (against,))

    @classmethod
    def fingerprint_inputs(cls, lora_name: str | None = None, against: str | None = None, **_: Any) -> list[Any]:
        return operation.fingerprint((lora_name,), (against,))

    @classmethod
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        done = operation.performed(INSPECT, inputs, "measuring")
        pictures = sizes_picture(done.report), conflict_picture(done.report)
        found = shown(cls, done.report, *pictures)
        found["report"][0]["layers"] = []  # thousands for a stack; the page shows blocks
        return io.NodeOutput(*done.texts, *pictures, ui=found)


NODES = [InspectLora]
