"""Convert LoRA: writes a LoRA under another dialect's names."""

from __future__ import annotations

from typing import Any

from ..lora_core.operations.converting.convert import convert
from ..lora_core.options import CONVERT
from . import host
from .host import io
from .schema import NONE, schema_of


class ConvertLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema_of(CONVERT)

    @classmethod
    def validate_inputs(cls, lora_name: str | None = None, base: str | None = None) -> bool | str:
        if lora_name == NONE:
            return "lora_name: choose the LoRA to convert."
        found = host.problem(host.lora_path, (lora_name,))
        return found if found is not True else host.problem(host.model_path, _model(base))

    @classmethod
    def fingerprint_inputs(cls, lora_name: str | None = None, base: str | None = None, **_: Any) -> list[Any]:
        return [*host.fingerprint(host.lora_path, (lora_name,)), *host.fingerprint(host.model_path, _model(base))]

    @classmethod
    def execute(cls, lora_name: str, filename_prefix: str, base: str = NONE, **options: Any) -> io.NodeOutput:
        out = host.new_lora_path(filename_prefix)
        model = None if base == NONE else host.model_path(base)
        report = convert(
            host.lora_path(lora_name), out, base=model, **options, on_step=host.progress("converting", "writing")
        )
        shown = {"text": (report.text(),), "report": (report.to_dict(),)}
        return io.NodeOutput(host.listed_name(out, "loras"), report.text(), ui=shown)


def _model(base: str | None) -> tuple[str, ...]:
    return () if base in (None, NONE) else (base,)


NODES = [ConvertLora]
