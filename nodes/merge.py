"""Merge to Checkpoint: writes a checkpoint with a stack of LoRAs merged in."""

from __future__ import annotations

from typing import Any

from ..lora_core.options import MERGE
from . import host, library, operation
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
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        last = "verifying" if inputs.get("verify") else "writing"
        done = operation.performed(MERGE, inputs, "merging", last, hashes=library.HASHES)
        return io.NodeOutput(*done.texts, ui=shown(cls, done.report))


NODES = [MergeToCheckpoint]
