"""Combine LoRAs: writes a stack of LoRAs as one LoRA."""

from __future__ import annotations

from typing import Any

from ..lora_core.combine import combine
from ..lora_core.options import COMBINE
from ..lora_core.stack import StackEntry, join_stacks
from . import host
from .host import io, ui
from .picture import energy_picture
from .schema import NONE, schema_of


class CombineLoras(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema_of(COMBINE)

    @classmethod
    def validate_inputs(cls, base: str | None = None) -> bool | str:
        return host.problem(host.model_path, _model(base))

    @classmethod
    def fingerprint_inputs(cls, base: str | None = None, **_: Any) -> list[Any]:
        return host.fingerprint(host.model_path, _model(base))

    @classmethod
    def execute(cls, lora_stack: list[Any], filename_prefix: str, base: str = NONE, **options: Any) -> io.NodeOutput:
        out = host.new_lora_path(filename_prefix)
        loras = [file_entry(entry) for entry in join_stacks(lora_stack, ())]
        model = None if base == NONE else host.model_path(base)
        report = combine(loras, out, base=model, **options, on_step=host.progress())
        picture = energy_picture(report)
        shown = {"text": (report.text(),), "report": (report.to_dict(),), **ui.PreviewImage(picture, cls=cls).as_dict()}
        return io.NodeOutput(host.listed_name(out, "loras"), report.text(), picture, ui=shown)


def file_entry(entry: StackEntry) -> StackEntry:
    """Return the entry with its file's path as the name, as lora_core.combine takes it."""
    path = host.located(entry).path
    return StackEntry(path, *entry[1:], blocks=entry.blocks, hash=entry.hash, path=path)


def _model(base: str | None) -> tuple[str, ...]:
    return () if base in (None, NONE) else (base,)


NODES = [CombineLoras]
