"""One LoRA of a stack, of a file or in memory: what other packs read of it, and what only LoRA Core does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..files.memory import IN_MEMORY, check_in_memory


class StackEntry(tuple[str, float, float]):
    """One LoRA of a stack: (name, strength_model, strength_clip), and more as attributes."""

    blocks: str  # strengths of its own for some blocks; empty for none
    hash: str  # what the file's content is known by, and its size: to find it under another name
    size: int
    path: str  # of the file, once it is found
    note: str  # how it was found, if users should know
    tensors: Mapping[str, Any] | None  # of a LoRA that no file holds, by their names
    low: StackEntry | None  # of a pair: what the low-noise model gets; this entry is then for the high-noise model

    def __new__(
        cls,
        name: str,
        strength_model: float,
        strength_clip: float,
        *,
        blocks: str = "",
        hash: str = "",
        size: int = 0,
        path: str = "",
        note: str = "",
        tensors: Mapping[str, Any] | None = None,
        low: StackEntry | None = None,
    ) -> StackEntry:
        entry = super().__new__(cls, (name, float(strength_model), float(strength_clip)))
        entry.blocks, entry.hash, entry.size, entry.path, entry.low = blocks, hash, size, path, low
        entry.note, entry.tensors = note, tensors
        return entry

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:  # so that copies and pickles keep all
        return tuple(self), self.extras()

    def extras(self) -> dict[str, Any]:
        """Return the attributes, as the keywords that make an entry with them."""
        found = {"blocks": self.blocks, "hash": self.hash, "size": self.size, "path": self.path, "low": self.low}
        return {**found, "note": self.note, "tensors": self.tensors}

    def opened_as(self) -> StackEntry:
        """Return the entry as operations take it: the path of its file is its name, in a pair of both."""
        more: dict[str, Any] = {**self.extras(), "low": self.low.opened_as() if self.low else None}
        return StackEntry(self.path or self[0], self[1], self[2], **more)


def stack_in_memory(
    tensors: Any, strength_model: float = 1.0, strength_clip: float = 1.0, blocks: str = ""
) -> list[StackEntry]:
    """Return a stack of one LORA_MODEL, a LoRA that no file holds, or an empty one for None; raises OptionError.

    Its name tells users of other packs, which open the files of a stack by their names, why they fail.
    """
    if tensors is None:
        return []
    name = f"{IN_MEMORY}, for LoRA Core's nodes only"
    return [StackEntry(name, strength_model, strength_clip, blocks=blocks, tensors=check_in_memory(tensors))]
