"""Extract LoRA: writes what changed between two checkpoints as a LoRA."""

from __future__ import annotations

from typing import Any

from ..lora_core.extract import extract
from ..lora_core.options import EXTRACT
from . import host
from .host import io, ui
from .picture import energy_picture
from .schema import schema_of


class ExtractLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema_of(EXTRACT)

    @classmethod
    def validate_inputs(cls, base: str | None = None, tuned: str | None = None) -> bool | str:
        return host.problem(host.model_path, (base, tuned))

    @classmethod
    def fingerprint_inputs(cls, base: str | None = None, tuned: str | None = None, **_: Any) -> list[Any]:
        return host.fingerprint(host.model_path, (base, tuned))

    @classmethod
    def execute(cls, base: str, tuned: str, filename_prefix: str, **options: Any) -> io.NodeOutput:
        out = host.new_lora_path(filename_prefix)
        report = extract(host.model_path(base), host.model_path(tuned), out, **options, on_step=host.progress())
        picture = energy_picture(report)
        shown = {"text": (report.text(),), "report": (report.to_dict(),), **ui.PreviewImage(picture, cls=cls).as_dict()}
        return io.NodeOutput(host.listed_name(out, "loras"), report.text(), picture, ui=shown)


NODES = [ExtractLora]
