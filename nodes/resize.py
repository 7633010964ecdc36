"""Resize LoRA: writes a LoRA at a lower rank."""

from __future__ import annotations

from typing import Any

from ..lora_core.options import RESIZE
from ..lora_core.resize import resize
from . import host
from .energychart import energy_picture
from .host import io
from .schema import NONE, chosen, schema_of
from .shown import shown


class ResizeLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema_of(RESIZE)

    @classmethod
    def validate_inputs(cls, lora_name: str | None = None, base: str | None = None) -> bool | str:
        if lora_name == NONE:
            return "lora_name: choose the LoRA to resize."
        found = host.problem(host.lora_path, (lora_name,))
        return found if found is not True else host.problem(host.model_path, chosen(base))

    @classmethod
    def fingerprint_inputs(cls, lora_name: str | None = None, base: str | None = None, **_: Any) -> list[Any]:
        return [*host.fingerprint(host.lora_path, (lora_name,)), *host.fingerprint(host.model_path, chosen(base))]

    @classmethod
    def execute(cls, lora_name: str, filename_prefix: str, base: str = NONE, **options: Any) -> io.NodeOutput:
        out = host.new_lora_path(filename_prefix)
        model = None if base == NONE else host.model_path(base)
        report = resize(
            host.lora_path(lora_name), out, base=model, **options, on_step=host.progress("resizing", "writing")
        )
        picture = energy_picture(report)
        return io.NodeOutput(host.listed_name(out, "loras"), report.text(), picture, ui=shown(cls, report, picture))


NODES = [ResizeLora]
