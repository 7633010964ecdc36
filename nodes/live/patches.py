"""A stack on a loaded model: ComfyUI's ModelPatcher holds the patches, and LoRA Core computes them.

One patch per weight carries all adapters of the stack for it, so the live weight comes from the same function as the
merged file's. Facts about the host that this relies on: a patch is rebuilt as `type(patch)(loaded_keys, weights)` when
tensors move between devices, so everything sits in `weights`, nested tuples of tensors and plain values.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...lora_core.adapters import unpacked
from ...lora_core.errors import UnknownArchError
from ...lora_core.library.words import words_of
from ...lora_core.naming.detection import describe
from ...lora_core.options import Semantics
from ...lora_core.report import Report, Stopwatch
from ...lora_core.stack.apply import Placed, apply_stack
from ...lora_core.stack.blockterms import parse_blocks
from ...lora_core.stack.entry import StackEntry
from ...lora_core.stack.matching import Match, PlacedSpec, match_stack
from ...lora_core.stack.opened import StackedLora
from ...lora_core.stack.refusals import OnUnmatched
from ..host import WeightAdapterBase, forget_between_runs, loaded_weights
from .loras import LoadedLora, loaded_loras
from .models import LoadedModel, loaded_model


class KeyStack(WeightAdapterBase):
    """All adapters that a stack has for one weight."""

    name = "lora_core"

    def __init__(self, loaded_keys: set[str], weights: tuple[Any, ...]) -> None:
        self.loaded_keys = loaded_keys
        self.weights = weights

    @classmethod
    def of(cls, placed: Iterable[PlacedSpec], semantics: Semantics) -> KeyStack:
        """Return the patch of adapters that are in memory; raises AdapterError for NaN or infinity."""
        stack = tuple((one.lora.packed(one), one.target, one.strength, one.spec.module) for one in placed)
        return cls({name for *_, name in stack}, (semantics, stack))

    def calculate_shape(self, key: str) -> tuple[int, ...] | None:
        """Return the shape that the weight is padded to, for the host to make room for it; None if it keeps its own."""
        adapters = [unpacked(adapter) for adapter, _, strength, _ in self.weights[1] if strength != 0]
        return next((adapter.new_shape for adapter in reversed(adapters) if adapter.new_shape is not None), None)

    def calculate_weight(
        self,
        weight: Any,
        key: str,
        strength: float,
        strength_model: float,
        offset: Any,
        function: Any,
        intermediate_dtype: Any = None,
        original_weight: Any = None,
    ) -> Any:
        """Return the weight with the stack applied: in fp32 where the host rounds afterwards, else in its dtype.

        The host asks for fp32 when it loads a model, and rounds into the storage dtype itself. In low-VRAM mode it
        asks for the weight's own dtype at every use, and feeds the result to the layer as it is. The weight is a copy
        that is the patch's to change, as the host's own adapters do.
        """
        semantics, stack = self.weights
        placed = [
            Placed(unpacked(adapter), target, adapter_strength * strength, name)
            for adapter, target, adapter_strength, name in stack
        ]
        is_wanted = weight.dtype in (torch.float32, intermediate_dtype)
        return apply_stack(weight, placed, semantics, out=weight if is_wanted else None)

    def h(self, x: Any, base_out: Any) -> Any:
        raise RuntimeError("LoRA Core: bypass mode is not supported; use Load LoRA, which patches the weights.")


@dataclass(frozen=True)
class Applied:
    model: Any
    clip: Any
    report: Report
    trigger_words: str = ""


def apply_live(
    model: Any,
    clip: Any,
    entries: Sequence[StackEntry],
    *,
    semantics: Semantics = "paper",
    on_unmatched: OnUnmatched = "warn",
) -> Applied:
    """Return clones of `model` and `clip` with the stack as patches; each entry's `path` names its file.

    Raises a LoraError as `merge` does: the same stack fails with the same words.
    """
    report = Report("load")
    watch = Stopwatch(report)
    if not entries:  # nothing to place, so the model may be of any architecture
        return Applied(model, clip, watch.stop())
    known = loaded_model(model.model, clip.cond_stage_model if clip is not None else None)
    loras = loaded_loras([_source(entry) for entry in entries], semantics)
    stack = [
        StackedLora(lora, entry[1], entry[2], parse_blocks(entry.blocks, f"{lora.name}: blocks"))
        for lora, entry in zip(loras, entries, strict=True)
    ]
    match = match_stack(stack, known.keymap, known.found, on_unmatched, LoadedLora.match)
    patches = {key: KeyStack.of(placed, semantics) for key, placed in match.by_key.items()}
    model, clip = model.clone(), clip.clone() if clip is not None else None
    forget_between_runs(model)
    taken: set[str] = set()
    for patcher in [model] if clip is None else [model, clip.patcher]:
        before = patcher.patches_uuid
        keys = set(patcher.add_patches(patches))
        known.mark(patcher, before, _content(keys, match, loras))
        taken |= keys
    if taken != set(patches):
        missing = sorted(set(patches) - taken)
        raise UnknownArchError(f"ComfyUI did not take {len(missing)} patches, e.g. {missing[0]!r}; please report this.")
    report.inputs = [item.lora.file.described() for item in stack]
    report.arch, report.title = describe(known.found)
    report.loras, report.warnings = match.reports, match.warnings
    _tell_sizes(known, loras, report, [model] if clip is None else [model, clip.patcher])
    words = dict.fromkeys(word for lora in loras for word in words_of(lora))
    return Applied(model, clip, watch.stop(), ", ".join(words))


def _tell_sizes(known: LoadedModel, loras: Sequence[LoadedLora], report: Report, patchers: Sequence[Any]) -> None:
    def weights() -> dict[str, Any]:
        return {key: weight for patcher in patchers for key, weight in loaded_weights(patcher).items()}

    for lora, described in zip(loras, report.loras, strict=True):
        described.blocks, described.relative_size, broken = lora.sized(known, weights)
        report.warnings += [text for text in broken if text not in report.warnings]


def _source(entry: StackEntry) -> Path | Mapping[str, Any]:
    return Path(entry.path) if entry.tensors is None else entry.tensors


def _content(keys: Container[str], match: Match, loras: Iterable[LoadedLora]) -> tuple[Any, ...]:
    """Return what tells the patches of these keys from others: the files with their strengths, in stack order.

    Strengths are in the order of the keys, or one for all where blocks have none of their own.
    """
    strengths: dict[int, list[float]] = {id(report): [] for report in match.reports}
    for key, placed in match.by_key.items():
        for one in placed if key in keys else ():
            strengths[id(one.report)].append(one.strength)
    found = [tuple(strengths[id(report)]) for report in match.reports]
    used = [one[:1] if len(set(one)) == 1 else one for one in found]
    return tuple((lora.key, one) for lora, one in zip(loras, used, strict=True) if one)
