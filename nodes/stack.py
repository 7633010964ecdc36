"""Stack LoRAs: rows of LoRA files with switches and strengths, as one LORA_STACK."""

from __future__ import annotations

from typing import Any

from ..lora_core.errors import LoraError
from ..lora_core.options import STACK
from ..lora_core.stack import check_strength, each_file, join_stacks, lora_text, parse_rows, stack_of
from ..lora_core.stackentry import stack_in_memory
from . import host
from .host import io
from .schema import schema_of


class StackLoras(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema_of(STACK)

    @classmethod
    def validate_inputs(cls, rows: Any = None) -> bool | str:
        try:
            names = [entry[0] for entry in each_file(stack_of(parse_rows(rows)))]
        except LoraError as error:
            return str(error)
        return host.problem(host.lora_path, names)

    @classmethod
    def fingerprint_inputs(cls, rows: Any = None, **_: Any) -> list[Any]:
        return host.fingerprint(host.lora_path, [entry[0] for entry in each_file(stack_of(parse_rows(rows)))])

    @classmethod
    def execute(
        cls, rows: Any = None, lora_stack: list[Any] | None = None, lora: Any = None, lora_strength: float | None = None
    ) -> io.NodeOutput:
        strength = 1.0 if lora_strength is None else check_strength(lora_strength, "lora_strength")
        own = [*stack_of(parse_rows(rows)), *stack_in_memory(lora, strength, strength)]
        entries = [host.located(entry) for entry in join_stacks(lora_stack, own)]
        text = lora_text(entries)
        return io.NodeOutput(entries, text, host.trigger_words(entries), ui={"text": (text,)})


NODES = [StackLoras]
