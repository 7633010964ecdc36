"""Inspect LoRA: what LoRAs change, block by block, and how those of a stack agree."""

from __future__ import annotations

from typing import Any

from ..lora_core.library.stackfiles import notes_of
from ..lora_core.operations.inspecting.inspect import inspect, to_inspect
from ..lora_core.options import INSPECT
from . import host, library
from .host import io
from .pictures.conflictmap import conflict_picture
from .pictures.sizechart import sizes_picture
from .schema import NONE, chosen, schema_of, shown


class InspectLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema_of(INSPECT)

    @classmethod
    def validate_inputs(cls, lora_name: str | None = None, against: str | None = None) -> bool | str:
        found = host.problem(host.lora_path, chosen(lora_name))
        return found if found is not True else host.problem(host.model_path, chosen(against))

    @classmethod
    def fingerprint_inputs(cls, lora_name: str | None = None, against: str | None = None, **_: Any) -> list[Any]:
        loras = host.fingerprint(host.lora_path, chosen(lora_name))
        return [*loras, *host.fingerprint(host.model_path, chosen(against))]

    @classmethod
    def execute(cls, lora_name: str, against: str = NONE, lora_stack: list[Any] | None = None) -> io.NodeOutput:
        entries = library.found(to_inspect(lora_name, lora_stack))
        first, *more = library.stack_files(entries)
        models = [host.model_path(name) for name in chosen(against)]
        report = inspect(first, models, stack=more, spectra=True, on_step=host.progress("measuring"))
        report.warnings[:0] = notes_of(entries)
        pictures = sizes_picture(report), conflict_picture(report)
        found = shown(cls, report, *pictures)
        found["report"][0]["layers"] = []  # thousands for a stack; the page shows blocks
        return io.NodeOutput(report.text(), library.trigger_words(entries), *pictures, ui=found)


NODES = [InspectLora]
