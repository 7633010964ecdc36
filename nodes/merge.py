"""Merge to Checkpoint: writes a checkpoint with a stack of LoRAs merged in."""

from __future__ import annotations

from typing import Any

from . import library
from .host import io
from .operation import OperationNode


class MergeToCheckpoint(OperationNode):
    @classmethod
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        last = "verifying" if inputs.get("verify") else "writing"
        return cls.shown(cls.performed(inputs, last, hashes=library.HASHES))
