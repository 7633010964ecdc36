"""The stacks of a run: each node adds its own LoRAs to what is wired in, and a list is made only where one is used."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ..library.words import words_of_stack
from ..stack.entry import StackEntry
from ..stack.rows import lora_text


@dataclass(frozen=True)
class StackOutput:
    """What a Stack LoRAs node puts out: thousands of them may hang on each other."""

    own: list[StackEntry]
    upstream: StackOutput | None = None

    def entries(self) -> list[StackEntry]:
        """Return all LoRAs in the order in which they are applied, as a new list."""
        parts: list[list[StackEntry]] = []
        stack: StackOutput | None = self
        while stack is not None:
            parts.append(stack.own)
            stack = stack.upstream
        return [entry for part in reversed(parts) for entry in part]

    @cached_property
    def lora_text(self) -> str:
        return lora_text(self.entries())

    @cached_property
    def trigger_words(self) -> str:
        return words_of_stack(self.entries())
