"""Load LoRA: applies a LoRA, a stack, or both to a loaded model and its text encoder."""

from __future__ import annotations

from typing import Any

from ..lora_core.library.stackfiles import notes_of
from ..lora_core.options import LOAD
from ..lora_core.options.shared import NO_FILE
from ..lora_core.parallel.asking import asking
from ..lora_core.stack.entry import stack_in_memory
from ..lora_core.stack.rows import join_stacks, stack_of_one
from . import host, library
from .host import io
from .live.pair import apply_to_both
from .schema import schema_of


class LoadLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema_of(LOAD)

    @classmethod
    def validate_inputs(cls, lora_name: str | None = None) -> bool | str:
        return host.problem(host.lora_path, () if lora_name in (NO_FILE, "") else (lora_name,))

    @classmethod
    def fingerprint_inputs(cls, lora_name: str | None = None, lora_stack: Any = None, **_: Any) -> list[Any]:
        return host.fingerprint(host.lora_path, (lora_name,))

    @classmethod
    def execute(
        cls,
        model: Any,
        lora_name: str,
        strength_model: float,
        strength_clip: float,
        clip: Any = None,
        lora_stack: list[Any] | None = None,
        blocks: str = "",
        model_low: Any = None,
        lora: Any = None,
        **options: Any,
    ) -> io.NodeOutput:
        own = stack_of_one(lora_name, strength_model, strength_clip, blocks)
        own += stack_in_memory(lora, strength_model, strength_clip, blocks)
        entries = library.found(join_stacks(lora_stack, own))
        with asking(host.stop_if_cancelled):
            applied = apply_to_both(model, model_low, clip, entries, **options)
        applied.report.warnings[:0] = notes_of(entries)
        text = applied.report.text() or "no LoRA: the model passes through unchanged"
        shown = {"text": (text,), "report": (applied.report.to_dict(),)}
        low = applied.low.model if applied.low else host.ExecutionBlocker("MODEL_LOW: wire the input model_low.")
        return io.NodeOutput(applied.high.model, applied.high.clip, text, applied.trigger_words, low, ui=shown)
