"""Extract LoRA: writes what changed between two models, files or loaded ones, as a LoRA."""

from __future__ import annotations

from typing import Any

from ..lora_core.options import EXTRACT
from . import operation
from .host import io
from .pictures.energychart import energy_picture
from .schema import schema_of, shown


class ExtractLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema_of(EXTRACT)

    @classmethod
    def validate_inputs(cls, base: str | None = None, tuned: str | None = None) -> bool | str:
        return operation.problem(models=(base, tuned))

    @classmethod
    def fingerprint_inputs(cls, base: str | None = None, tuned: str | None = None, **_: Any) -> list[Any]:
        return operation.fingerprint(models=(base, tuned))

    @classmethod
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        done = operation.performed(EXTRACT, inputs, "extracting", "writing")
        picture = energy_picture(done.report)
        return io.NodeOutput(*done.texts, picture, ui=shown(cls, done.report, picture))


NODES = [ExtractLora]
