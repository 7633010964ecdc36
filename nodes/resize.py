"""Resize LoRA: writes a LoRA at a lower rank."""

from __future__ import annotations

from typing import Any

from ..lora_core.errors import OptionError
from ..lora_core.files.memory import check_in_memory
from ..lora_core.operations.resizing.resize import resize
from ..lora_core.options import RESIZE
from ..lora_core.reading.lorafile import LoraSource
from . import host
from .host import io
from .pictures.energychart import energy_picture
from .schema import NONE, chosen, schema_of, shown


class ResizeLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema_of(RESIZE)

    @classmethod
    def validate_inputs(cls, lora_name: str | None = None, base: str | None = None, lora: Any = NONE) -> bool | str:
        is_wired = lora != NONE  # what is wired is not known yet, and None here
        if lora_name == NONE and not is_wired:
            return "lora_name: choose the LoRA to resize."
        if lora_name not in (NONE, None) and is_wired:
            return "lora_name: a LoRA is wired too; choose None here, or take the wire away."
        found = host.problem(host.lora_path, chosen(lora_name))
        return found if found is not True else host.problem(host.model_path, chosen(base))

    @classmethod
    def fingerprint_inputs(cls, lora_name: str | None = None, base: str | None = None, **_: Any) -> list[Any]:
        return [*host.fingerprint(host.lora_path, chosen(lora_name)), *host.fingerprint(host.model_path, chosen(base))]

    @classmethod
    def execute(
        cls, lora_name: str, filename_prefix: str, base: str = NONE, lora: Any = None, **options: Any
    ) -> io.NodeOutput:
        out = host.new_lora_path(filename_prefix)
        model = None if base == NONE else host.model_path(base)
        report = resize(
            _source(lora_name, lora), out, base=model, **options, on_step=host.progress("resizing", "writing")
        )
        picture = energy_picture(report)
        return io.NodeOutput(host.listed_name(out, "loras"), report.text(), picture, ui=shown(cls, report, picture))


def _source(lora_name: str, lora: Any) -> LoraSource:
    if lora is not None and lora_name != NONE:  # a wired name is known only now
        raise OptionError(f"lora_name: {lora_name} and a LoRA in memory are both wired; take one wire away.")
    return host.lora_path(lora_name) if lora is None else check_in_memory(lora)


NODES = [ResizeLora]
