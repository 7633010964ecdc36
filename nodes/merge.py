"""Merge to Checkpoint: writes a checkpoint with a stack of LoRAs merged in."""

from __future__ import annotations

from typing import Any

from ..lora_core.library.stackfiles import notes_of
from ..lora_core.operations.merging.merge import merge
from ..lora_core.options import MERGE
from ..lora_core.stack.entry import stack_in_memory
from . import host, library
from .host import io
from .schema import schema_of, shown


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
    def execute(
        cls,
        checkpoint: str,
        filename_prefix: str,
        lora_stack: list[Any] | None = None,
        lora: Any = None,
        **options: Any,
    ) -> io.NodeOutput:
        out = host.new_model_path(checkpoint, filename_prefix)
        loras = library.stack_files([*(lora_stack or ()), *stack_in_memory(lora)])
        report = merge(
            host.model_path(checkpoint),
            loras,
            out,
            **options,
            on_step=host.progress("merging", "verifying" if options.get("verify") else "writing"),
            hashes=library.HASHES,
        )
        report.warnings[:0] = notes_of(loras)
        name = host.listed_name(out, host.model_folder(checkpoint))
        return io.NodeOutput(name, report.text(), ui=shown(cls, report))


NODES = [MergeToCheckpoint]
