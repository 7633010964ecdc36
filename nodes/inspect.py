"""Inspect LoRA: what LoRAs change, block by block, and how those of a stack agree."""

from __future__ import annotations

from ..lora_core.workflows.perform import Performed
from .host import io
from .operation import OperationNode


class InspectLora(OperationNode):
    @classmethod
    def shown(cls, done: Performed) -> io.NodeOutput:
        output = super().shown(done)
        output.ui["report"][0]["layers"] = []  # thousands for a stack; the page shows blocks
        return output
