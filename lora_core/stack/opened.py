"""A LoRA of a stack: an open file with the strengths that a user gave it, and how strong it is in each place."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from ..errors import OptionError
from ..naming.blocks import Block, ModelBlocks
from ..naming.keymap import KeyMap
from ..naming.targets import Target
from ..options import Semantics
from ..reading.lorafile import LoraFile
from ..report import LoraReport
from .blockstrengths import factors_on
from .blockterms import BlockStrengths, parse_blocks
from .entry import StackEntry
from .rows import check_strength

# A LoRA as callers name it: a path, or a path with one or two strengths and with strengths of blocks
LoraItem = str | os.PathLike[str] | Sequence[Any]


@dataclass(frozen=True, slots=True)
class StackedLora:
    """An open LoRA file with the strengths that a user gave it."""

    lora: LoraFile
    strength_model: float = 1.0
    strength_clip: float = 1.0
    blocks: BlockStrengths = field(default_factory=BlockStrengths)

    def strengths_on(self, keymap: KeyMap) -> Strengths:
        """Return the strengths on a model; raises OptionError for blocks that it does not have."""
        return Strengths(self, keymap.blocks if self.blocks else None)

    def described(self) -> dict[str, Any]:
        """Return the file and its strengths, as the metadata of what is made of it name them."""
        more = {"blocks": str(self.blocks)} if self.blocks else {}
        strengths = {"strength_model": self.strength_model, "strength_clip": self.strength_clip}
        return {"name": self.lora.name, **strengths, **more}


class Strengths:
    """The strengths of one LoRA on one model: the place that decides how strong an adapter is."""

    def __init__(self, item: StackedLora, model: ModelBlocks | None) -> None:
        """Take the blocks of the model, None if all have the same strength."""
        self._by_role = {"diffusion": item.strength_model, "text_encoder": item.strength_clip}
        self._model = model
        self._factors = factors_on(item.blocks, model, item.lora.name) if model else None
        self._asked: set[Block] = set()

    def at(self, target: Target) -> float:
        """Return the strength of an adapter that goes to `target`."""
        strength = self._by_role[target.role]
        if self._model is None or self._factors is None:
            return strength
        block = self._model.of_target(target)
        self._asked.add(block)
        return strength * self._factors.of(block)

    def tell(self, report: LoraReport) -> None:
        """Fill in the strengths of a report, with the blocks of all targets that were asked for."""
        report.strength_model, report.strength_clip = self._by_role["diffusion"], self._by_role["text_encoder"]
        if self._factors is not None:
            report.block_strengths = self._factors.told(self._asked)
            report.unused_blocks = self._factors.unused(self._asked)


def about_blocks(report: LoraReport) -> list[str]:
    """Return a warning if strengths of blocks change nothing of the LoRA."""
    if not report.unused_blocks:
        return []
    return [f"{report.name}: blocks: nothing of this LoRA is in {', '.join(report.unused_blocks)}."]


def open_stack(loras: Iterable[LoraItem], semantics: Semantics, files: ExitStack) -> list[StackedLora]:
    """Open the files of a stack; `files` closes them."""
    stack: list[StackedLora] = []
    for item in loras:
        path, strength_model, strength_clip, blocks = _item(item)
        tensors = item.tensors if isinstance(item, StackEntry) else None
        lora = files.enter_context(LoraFile(path if tensors is None else tensors, semantics))
        stack.append(StackedLora(lora, strength_model, strength_clip, blocks))
    return stack


def _item(item: LoraItem) -> tuple[str, float, float, BlockStrengths]:
    if isinstance(item, (str, os.PathLike)):
        return os.fspath(item), 1.0, 1.0, BlockStrengths()
    if not 1 <= len(item) <= 4:
        raise OptionError(f"merge: expected (path, strength_model, strength_clip, blocks), found {item!r}.")
    given: list[Any] = [*item, *(1.0, None, "")[len(item) - 1 :]]
    path, strength, clip, blocks = os.fspath(given[0]), *given[1:]
    strength_model = check_strength(strength, path)
    strength_clip = strength_model if clip is None else check_strength(clip, path)
    blocks = item.blocks if isinstance(item, StackEntry) else blocks
    return path, strength_model, strength_clip, parse_blocks(blocks, f"{path}: blocks")
