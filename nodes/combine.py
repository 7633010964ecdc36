"""Combine LoRAs: writes a stack of LoRAs as one LoRA."""

from __future__ import annotations

from typing import Any

from ..lora_core.options import COMBINE
from . import operation
from .host import io
from .pictures.energychart import energy_picture
from .schema import schema_of, shown


class CombineLoras(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema_of(COMBINE)

    @classmethod
    def validate_inputs(cls, base: str | None = None) -> bool | str:
        return operation.problem(models=(base,))

    @classmethod
    def fingerprint_inputs(cls, base: str | None = None, **_: Any) -> list[Any]:
        return operation.fingerprint(models=(base,))

    @classmethod
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        done = operation.performed(COMBINE, inputs, "combining", "writing")
        picture = energy_picture(done.report)
        return io.NodeOutput(*done.texts, picture, ui=shown(cls, done.report, picture))


NODES = [CombineLoras]
