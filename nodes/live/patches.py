"""A stack on a loaded model and its text encoder: in their weights, or beside them."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...lora_core.errors import UnknownArchError
from ...lora_core.library.words import words_of
from ...lora_core.naming.detection import describe
from ...lora_core.options import Semantics
from ...lora_core.options.live import Apply
from ...lora_core.report import Report, Stopwatch
from ...lora_core.stack.blockterms import parse_blocks
from ...lora_core.stack.entry import StackEntry
from ...lora_core.stack.matching import Match, match_stack
from ...lora_core.stack.opened import StackedLora
from ...lora_core.stack.refusals import OnUnmatched
from ..hostmodels import forget_between_runs, loaded_weights
from .hanging import hang
from .loras import LoadedLora, loaded_loras
from .models import LoadedModel, loaded_model
from .sharing import shared


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
    apply: Apply = "patch",
) -> Applied:
    """Return clones of `model` and `clip` with the stack in or beside their weights; an entry's `path` is its file.

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
    model, clip = model.clone(), clip.clone() if clip is not None else None
    forget_between_runs(model)
    divided = shared(model, match, stack, apply, semantics)
    patches = divided.patches
    hang(model, divided.live)
    if divided.first:
        model.add_patches(divided.first)
    taken: set[str] = set()
    for role, patcher in (("diffusion", model), *([("text_encoder", clip.patcher)] if clip is not None else [])):
        own = {key: patch for key, patch in patches.items() if patch.role == role}
        if not own:
            continue  # else the host would take its weights for others
        before = patcher.patches_uuid
        keys = set(patcher.add_patches(own))
        if divided.is_markable:
            known.mark(patcher, before, (divided.beside, *_content(keys, match, loras)))
        taken |= keys
    if taken != set(patches):
        missing = sorted(set(patches) - taken)
        raise UnknownArchError(f"ComfyUI did not take {len(missing)} patches, e.g. {missing[0]!r}; please report this.")
    report.inputs = [item.lora.file.described() for item in stack]
    report.arch, report.title = describe(known.found)
    report.loras, report.warnings = match.reports, match.warnings
    report.notes += divided.notes
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
