"""Which weights of a model a stack stands beside, and which it is put into."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ...lora_core.options import Semantics
from ...lora_core.options.live import Apply
from ...lora_core.stack.matching import Match, PlacedSpec
from ...lora_core.stack.opened import StackedLora
from .beside import Entry, LiveStack
from .hanging import live_stack, stack_of
from .keystack import KeyStack

_PLAIN = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Shared:
    """A stack, divided."""

    live: LiveStack | None  # with what stood beside the weights before
    patches: dict[str, KeyStack]
    beside: frozenset[str]  # the keys of this stack that have a branch
    first: dict[str, KeyStack]  # patches of what stood beside the weights before and can't any more
    is_markable: bool  # whether files and strengths tell these patches from others
    notes: list[str]  # which way was gone, and why


def shared(model: Any, match: Match, stack: Iterable[StackedLora], apply: Apply, semantics: Semantics) -> Shared:
    """Divide a stack between branches and patches.

    "live" is every weight of the diffusion model that has a cheap branch, "auto" of these the ones that are stored as
    codes, where a patch would be rounded to the codes. `model` is the patcher with what was applied to it before.
    """
    before = stack_of(model)
    strengths = [one.strength_model for one in stack]
    owners = {id(report): number for number, report in enumerate(match.reports)}
    others = before.strengths if before else ()
    entries: dict[str, tuple[Entry, ...]] = dict(before.entries) if before else {}
    wanted = _wanted(model, match, apply) if semantics == "paper" else frozenset()
    for key in wanted:
        found = [_entry(one, owners[id(one.report)], len(others), strengths) for one in match.by_key[key]]
        entries[key] = (*entries.get(key, ()), *(one for one in found if one is not None))
    # a patch that reads the weight has to find there what came before it
    reading = {key for key, some in match.by_key.items() if key not in wanted and key in entries and _reads(some)}
    live, rest = live_stack(
        model, (*others, *strengths),
        {key: some for key, some in entries.items() if some and key not in reading},
    )  # fmt: skip
    beside = wanted.difference(rest)
    patches = {key: KeyStack.of(some, semantics) for key, some in match.by_key.items() if key not in beside}
    first = {key: before.patch(key) for key in (*rest, *reading) if before and key in before.entries}
    coded = _wanted(model, match, "auto") if apply == "patch" else ()
    notes = _notes(beside, wanted, len(match.by_key), apply, len(coded))
    return Shared(live, patches, beside, first, before is None, notes)


def _wanted(model: Any, match: Match, apply: Apply) -> frozenset[str]:
    if apply == "patch":
        return frozenset()
    weights: Mapping[str, Any] = dict(model.model.named_parameters())
    keys = (key for key, placed in match.by_key.items() if placed[0].target.role == "diffusion" and key in weights)
    return frozenset(key for key in keys if apply == "live" or is_coded(weights[key]))


def _notes(beside: Collection[str], wanted: Collection[str], total: int, apply: Apply, coded: int) -> list[str]:
    if apply == "patch" and coded:
        return [f"patched: {coded} weights that are stored as codes; with apply: auto LoRAs stay exact beside them"]
    if not wanted:
        return []
    why = "" if apply == "live" else ", which are stored as codes"
    notes = [f"live: beside {len(beside)} of {total} weights{why}"] if beside else []
    if len(beside) < len(wanted):
        count = len(wanted) - len(beside)
        notes.append(f"patched all the same: {count} weights, beside which these LoRAs have no cheap form")
    return notes


def is_coded(weight: Any) -> bool:
    """Tell whether a weight is stored as codes: of the host's quantised classes, of other packs', or plain fp8."""
    return type(weight) not in (torch.Tensor, torch.nn.Parameter) or weight.dtype not in _PLAIN


def _entry(one: PlacedSpec, owner: int, first: int, strengths: list[float]) -> Entry | None:
    strength = strengths[owner]
    packed = one.lora.packed(one)  # checked, and told to the report, at any strength
    if not strength or not one.strength:
        return None
    share = round(one.strength / strength, 9)  # the same whatever the strength
    return Entry(packed, one.target, share, one.spec.module, first + owner)


def _reads(placed: Iterable[PlacedSpec]) -> bool:
    return any(not one.placed().adapter.additive for one in placed)
