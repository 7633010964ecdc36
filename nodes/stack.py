"""Stack LoRAs: rows of LoRA files with switches and strengths, as one LORA_STACK."""

from __future__ import annotations

from typing import Any

from ..lora_core.library.stackfiles import notes_of
from ..lora_core.library.words import words_of_stack
from ..lora_core.options import STACK
from ..lora_core.parallel.asking import asking
from ..lora_core.shortage import tells_shortages
from ..lora_core.stack.entry import stack_in_memory
from ..lora_core.stack.rows import check_strength, join_stacks, lora_text, parse_rows, stack_of
from . import host, library
from .host import io
from .schema import schema_of
from .validation import looked_at


class StackLoras(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema_of(STACK)

    @classmethod
    async def validate_inputs(cls, rows: Any = None) -> bool | str:
        return await looked_at(lambda: library.rows_problem(rows))

    @classmethod
    def fingerprint_inputs(cls, rows: Any = None, **_: Any) -> list[Any]:
        return library.rows_fingerprint(rows)

    @classmethod
    @tells_shortages
    def execute(
        cls, rows: Any = None, lora_stack: list[Any] | None = None, lora: Any = None, lora_strength: float | None = None
    ) -> io.NodeOutput:
        strength = 1.0 if lora_strength is None else check_strength(lora_strength, "lora_strength")
        own = [*stack_of(parse_rows(rows)), *stack_in_memory(lora, strength, strength)]
        with asking(host.ask_cancelled):
            entries = library.found(join_stacks(lora_stack, own))
            words = words_of_stack(entries)
        text = lora_text(entries)
        shown = "\n".join([text, *(f"warning: {note}" for note in notes_of(entries))])
        return io.NodeOutput(entries, text, words, ui={"text": (shown,)})
