"""Which adapter of which LoRA goes to which target of a checkpoint, and what has no place and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..naming.detection import FoundArch, describe
from ..naming.keymap import KeyMap
from ..naming.targets import Target
from ..parallel.asking import each
from ..parallel.collector import collections_paused
from ..reading.adapterspec import AdapterSpec
from ..reading.finder import PlaceFinder
from ..reading.lorafile import LoraFile
from ..report import LoraReport
from .apply import Placed
from .opened import StackedLora, Strengths, about_blocks
from .placing import placed_adapter
from .refusals import OnUnmatched, judge, refuse_foreign
from .repeated import without_repeats
from .sizes import counted_blocks


@dataclass(frozen=True, slots=True)
class PlacedSpec:
    """An adapter that has a target, its tensors still in the file."""

    lora: LoraFile
    spec: AdapterSpec
    target: Target
    strength: float
    report: LoraReport
    changing: dict[str, bool]  # modules of the file that were read so far -> whether an adapter changes something

    def read(self) -> Placed:
        """Read the tensors, and tell the report if they change nothing; raises AdapterError for NaN or infinity."""
        placed = self.placed()
        self.tell(changes=not placed.adapter.is_zero())
        return placed

    def placed(self) -> Placed:
        """Read the tensors and tell nobody; raises AdapterError for NaN or infinity."""
        adapter = placed_adapter(self.lora, self.spec, self.target)
        return Placed(adapter, self.target, self.strength, f"{self.lora.name}: {self.spec.module}")

    def tell(self, *, changes: bool) -> None:
        """Keep the report's list: a module is without effect if none of its adapters has one, a bias included."""
        module, without = self.spec.module, self.report.without_effect
        known = self.changing.get(module)
        self.changing[module] = changes or bool(known)
        if known is None and not changes:
            without.append(module)
        elif known is False and changes:
            without.remove(module)


@dataclass(frozen=True, slots=True)
class Match:
    """A stack on a checkpoint: what each key gets, in stack order."""

    by_key: dict[str, list[PlacedSpec]]
    reports: list[LoraReport]
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class LoraMatch:
    """A LoRA file on a checkpoint, whatever its strengths: what goes where, and its report without them."""

    lora: LoraFile
    places: list[tuple[AdapterSpec, Target]]
    report: LoraReport

    def at(self, strengths: Strengths) -> tuple[list[PlacedSpec], LoraReport]:
        """Return what is placed, with these strengths, and a report of its own."""
        report = replace(self.report, without_effect=[])
        changing: dict[str, bool] = {}
        placed = [
            PlacedSpec(self.lora, spec, target, strengths.at(target), report, changing) for spec, target in self.places
        ]
        strengths.tell(report)
        return placed, report


def match_stack(
    stack: Sequence[StackedLora],
    keymap: KeyMap,
    found: list[FoundArch],
    on_unmatched: OnUnmatched = "warn",
    matched: Callable[[LoraFile, KeyMap], LoraMatch] | None = None,
) -> Match:
    """Place every adapter of the stack. `matched` is asked instead of `match_lora`: it may remember the answer.

    Raises NothingMatchedError for a LoRA that has no place here, unless `on_unmatched` is "ignore", and
    UnmatchedError for a single module without a place if it is "error".
    """
    match = Match({}, [], [])
    for item in stack:
        one = (matched or match_lora)(item.lora, keymap)
        match.warnings.extend(item.lora.warnings)
        if on_unmatched != "ignore":
            refuse_foreign(item.lora, one.report, found)
            match.warnings.extend(judge(one.report, on_unmatched, describe(found)[1]))
        placed, report = one.at(item.strengths_on(keymap))
        match.reports.append(report)
        match.warnings.extend(about_blocks(report))
        for adapter in placed:
            match.by_key.setdefault(adapter.target.key, []).append(adapter)
    return match


@collections_paused()
def match_lora(lora: LoraFile, keymap: KeyMap) -> LoraMatch:
    """Find the targets of every adapter of a file.

    Raises AdapterError for two modules that change the same rows of a weight differently, and for one whose shapes take
    far more memory than its weight.
    """
    report = describe_lora(lora)
    places: list[tuple[AdapterSpec, Target]] = []
    failed: dict[str, None] = dict.fromkeys([*lora.unsupported, *lora.unknown])  # what is not applied, in order
    finder = PlaceFinder(lora, keymap)
    for spec in each(lora.adapters):
        targets = finder.find(spec)
        if not targets and spec.optional:
            continue
        if not targets:
            failed[spec.module] = None
            names = report.elsewhere if keymap.is_elsewhere(spec.module) else report.unmatched
            if spec.module not in names[-1:]:
                names.append(spec.module)
        elif not spec.fits(targets[0].adapter_shape):
            failed[spec.module] = None
            report.mismatched.append(
                {"name": spec.module, "expected": list(targets[0].adapter_shape), "found": list(spec.delta_shape())}
            )
        else:
            spec.check_room(f"{lora.name}: {spec.module}", targets[0].adapter_shape)
            places.extend((spec, target) for target in targets)
    report.host_names, report.read_as = finder.host_names, finder.read_as
    report.modules_matched = report.modules_total - len(failed)
    places, report.repeated = without_repeats(lora, places)
    report.blocks = counted_blocks(report, ((spec.module, target) for spec, target in places), keymap)
    return LoraMatch(lora, places, report)


def describe_lora(lora: LoraFile) -> LoraReport:
    """Return what the file tells of itself."""
    ranks = [spec.rank for spec in lora.adapters if spec.rank]
    scales = [spec.scale for spec in lora.adapters if spec.rank]
    values = [scale.value for scale in scales] or [1.0]
    alphas = {scale.alpha for scale in scales}
    sources = {scale.source for scale in scales} or {"none"}
    unsupported: dict[str, list[str]] = {}
    for module, kind in lora.unsupported.items():
        unsupported.setdefault(kind, []).append(module)
    return LoraReport(
        name=lora.name,
        dialect=lora.dialect,
        kinds=lora.kinds,
        rank=(min(ranks), max(ranks)) if ranks else None,
        scale={
            "min": min(values),
            "max": max(values),
            "source": " and ".join(sorted(sources - {"none"}, reverse=True)) or "none",
            "alpha": alphas.pop() if len(alphas) == 1 else None,
        },
        modules_total=len(lora.modules) + len(lora.unknown),
        unmatched=list(lora.unknown),
        arches=[arch.title for arch in lora.arches],
        not_adapters=dict(lora.not_adapters),
        unsupported=unsupported,
    )
