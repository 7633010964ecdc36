"""Merge to Checkpoint: writes a checkpoint with a stack of LoRAs merged in."""

from __future__ import annotations

from typing import Any

from ..lora_core.merge import merge
from ..lora_core.options import MERGE
from ..lora_core.stack import StackEntry, join_stacks
from . import host
from .host import io
from .schema import schema_of


class MergeToCheckpoint(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema_of(MERGE)

    @classmethod
    def validate_inputs(cls, checkpoint: str | None = None) -> bool | str:
        return host.problem(host.model_path, (checkpoint,))

    @classmethod
    def fingerprint_inputs(cls, checkpoint: str | None = None, **_: Any) -> list[Any]:
        return host.fingerprint(host.model_path, (checkpoint,))

    @classmethod
    def execute(cls, checkpoint: str, lora_stack: list[Any], filename_prefix: str, **options: Any) -> io.NodeOutput:
        out = host.new_model_path(checkpoint, filename_prefix)
        loras = [file_entry(entry) for entry in join_stacks(lora_stack, ())]
        report = merge(host.model_path(checkpoint), loras, out, **options, on_step=host.progress())
        name = host.listed_name(out, host.model_folder(checkpoint))
        return io.NodeOutput(name, report.text(), ui={"text": (report.text(),), "report": (report.to_dict(),)})


def file_entry(entry: StackEntry) -> StackEntry:
    """Return the entry with its file's path as the name, as lora_core.merge takes it."""
    path = host.located(entry).path
    return StackEntry(path, *entry[1:], blocks=entry.blocks, hash=entry.hash, path=path)


NODES = [MergeToCheckpoint]
