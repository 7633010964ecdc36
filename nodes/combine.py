"""Combine LoRAs: writes a stack of LoRAs as one LoRA."""

from __future__ import annotations

from typing import Any

from ..lora_core.library.stackfiles import notes_of
from ..lora_core.operations.combining.combine import combine
from ..lora_core.options import COMBINE
from . import host, library
from .host import io
from .pictures.energychart import energy_picture
from .schema import NONE, chosen, schema_of, shown


class CombineLoras(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema_of(COMBINE)

    @classmethod
    def validate_inputs(cls, base: str | None = None) -> bool | str:
        return host.problem(host.model_path, chosen(base))

    @classmethod
    def fingerprint_inputs(cls, base: str | None = None, **_: Any) -> list[Any]:
        return host.fingerprint(host.model_path, chosen(base))

    @classmethod
    def execute(cls, lora_stack: list[Any], filename_prefix: str, base: str = NONE, **options: Any) -> io.NodeOutput:
        out = host.new_lora_path(filename_prefix)
        loras = library.stack_files(lora_stack)
        model = None if base == NONE else host.model_path(base)
        report = combine(loras, out, base=model, **options, on_step=host.progress("combining", "writing"))
        report.warnings[:0] = notes_of(loras)
        picture = energy_picture(report)
        return io.NodeOutput(host.listed_name(out, "loras"), report.text(), picture, ui=shown(cls, report, picture))


NODES = [CombineLoras]
