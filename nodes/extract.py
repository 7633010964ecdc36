"""Extract LoRA: writes what changed between two models, files or loaded ones, as a LoRA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..lora_core.library.stackfiles import notes_of
from ..lora_core.operations.extracting.extract import check_choice, extract
from ..lora_core.options import EXTRACT
from . import host, library
from .host import io
from .pictures.energychart import energy_picture
from .schema import NONE, chosen, schema_of, shown
from .wiredmodel import LoadedModel


class ExtractLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema_of(EXTRACT)

    @classmethod
    def validate_inputs(cls, base: str | None = None, tuned: str | None = None) -> bool | str:
        return host.problem(host.model_path, chosen(base, tuned))

    @classmethod
    def fingerprint_inputs(cls, base: str | None = None, tuned: str | None = None, **_: Any) -> list[Any]:
        return host.fingerprint(host.model_path, chosen(base, tuned))

    @classmethod
    def execute(
        cls,
        base: str,
        tuned: str,
        filename_prefix: str,
        model_base: Any = None,
        model_tuned: Any = None,
        lora_stack: list[Any] | None = None,
        **options: Any,
    ) -> io.NodeOutput:
        loras = None if lora_stack is None else library.stack_files(lora_stack)
        check_choice(base, tuned, model_base, model_tuned, loras)
        sides = _side(base, model_base, "model_base"), _side(tuned, model_tuned, "model_tuned")
        out = None if options.get("estimate_only") else host.new_lora_path(filename_prefix)
        report = extract(*sides, out, loras=loras or (), **options, on_step=host.progress("extracting", "writing"))
        report.warnings[:0] = notes_of(loras or ())
        picture = energy_picture(report)
        name = "" if out is None else host.listed_name(out, "loras")
        return io.NodeOutput(name, report.text(), picture, ui=shown(cls, report, picture))


def _side(name: str, model: Any, socket: str) -> LoadedModel | Path | None:
    if model is not None:
        return LoadedModel(model, socket)
    return None if name == NONE else host.model_path(name)


NODES = [ExtractLora]
