"""Which adapter of which LoRA goes to which target of a checkpoint, and what has no place and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from .adapters.rows import rows_of
from .apply import Placed, check_finite
from .arch.base import Arch
from .checkpoint import describe
from .detection import Found
from .dialects import DIFFUSION, addressed_roles
from .errors import AdapterError, NothingMatchedError, UnmatchedError
from .keymap import KeyMap
from .lorafile import AdapterSpec, LoraFile
from .report import LoraReport, counted, some_names
from .targets import Target

OnUnmatched = Literal["warn", "error", "ignore"]


@dataclass(frozen=True, slots=True)
class StackedLora:
    """An open LoRA file with the strengths that a user gave it."""

    lora: LoraFile
    strength_model: float = 1.0
    strength_clip: float = 1.0


@dataclass(frozen=True, slots=True)
class PlacedSpec:
    """An adapter that has a target, its tensors still in the file."""

    lora: LoraFile
    spec: AdapterSpec
    target: Target
    strength: float
    report: LoraReport
    changing: set[str]  # modules of the file of which an adapter read so far changes something

    def read(self) -> Placed:
        """Read the tensors, and tell the report if they change nothing; raises AdapterError for NaN or infinity."""
        name, adapter = f"{self.lora.name}: {self.spec.module}", self.lora.adapter(self.spec)
        if self.target.rows:
            first, rows = self.target.rows
            try:
                adapter = rows_of(adapter, first, self.target.shape[0], rows)
            except AdapterError as error:
                raise AdapterError(f"{name}: {error}.") from error
        placed = Placed(adapter, self.target, self.strength, name)
        check_finite(placed)
        self._tell(changes=not adapter.is_zero())
        return placed

    def _tell(self, *, changes: bool) -> None:
        """Keep the report's list: a module is without effect if none of its adapters has one, a bias included."""
        module, without = self.spec.module, self.report.without_effect
        if changes:
            self.changing.add(module)
            if module in without:
                without.remove(module)
        elif module not in self.changing and module not in without:
            without.append(module)


@dataclass(frozen=True, slots=True)
class Match:
    """A stack on a checkpoint: what each key gets, in stack order."""

    by_key: dict[str, list[PlacedSpec]]
    reports: list[LoraReport]
    warnings: list[str]


def match_stack(
    stack: Sequence[StackedLora], keymap: KeyMap, found: list[Found], on_unmatched: OnUnmatched = "warn"
) -> Match:
    """Place every adapter of the stack.

    Raises NothingMatchedError for a LoRA that has no place here, unless `on_unmatched` is "ignore", and
    UnmatchedError for a single module without a place if it is "error".
    """
    match = Match({}, [], [])
    for item in stack:
        placed, report = _match_one(item, keymap)
        match.reports.append(report)
        match.warnings.extend(item.lora.warnings)
        if on_unmatched != "ignore":
            _refuse_foreign(item.lora, report, found)
            match.warnings.extend(_judge(report, on_unmatched, describe(found)[1]))
        for one in placed:
            match.by_key.setdefault(one.target.key, []).append(one)
    return match


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
        modules_total=len(lora.modules),
        arches=[arch.title for arch in lora.arches],
        not_adapters=dict(lora.not_adapters),
        unsupported=unsupported,
    )


def _match_one(item: StackedLora, keymap: KeyMap) -> tuple[list[PlacedSpec], LoraReport]:
    lora, report = item.lora, describe_lora(item.lora)
    report.strength_model, report.strength_clip = item.strength_model, item.strength_clip
    placed: list[PlacedSpec] = []
    changing: set[str] = set()
    failed: dict[str, None] = dict.fromkeys(lora.unsupported)  # modules that are not applied, in order
    for spec in lora.adapters:
        targets = keymap.find(spec.module, spec.param)
        if not targets:
            targets = keymap.find_more(spec.module, spec.param)
            report.host_names += [spec.module] if targets else []
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
            strength = item.strength_model if targets[0].role == "diffusion" else item.strength_clip
            placed.extend(PlacedSpec(lora, spec, target, strength, report, changing) for target in targets)
    report.modules_matched = report.modules_total - len(failed)
    return placed, report


def _refuse_foreign(lora: LoraFile, report: LoraReport, found: list[Found]) -> None:
    """Raise NothingMatchedError for a LoRA of another architecture, even if some modules happen to fit."""
    here = {item.arch.id for item in found if item.arch.role == "diffusion"}
    title = describe(found)[1]
    is_foreign = here and lora.arches and not here & {arch.id for arch in lora.arches}
    if is_foreign and report.modules_matched < report.modules_total:  # what fits as a whole is for this model too
        raise NothingMatchedError(
            f"{lora.name}: this is {_a(lora.arches)} LoRA; the checkpoint is {title}. "
            f"{report.modules_matched} of {report.modules_total} modules would fit; use a LoRA made for {title}."
        )
    if report.modules_matched == 0 or (here and _misses_the_diffusion_model(lora, report)):
        raise NothingMatchedError(f"{lora.name}: nothing was applied: {_reason(report, lora.arches, title)}")


def _misses_the_diffusion_model(lora: LoraFile, report: LoraReport) -> bool:
    """Tell whether the LoRA has modules for a diffusion model and none of them has a place."""
    missing = {*report.unmatched, *report.elsewhere, *(item["name"] for item in report.mismatched), *lora.unsupported}
    modules = [name for name in lora.modules if DIFFUSION in addressed_roles(name)]
    return bool(modules) and missing.issuperset(modules)


def _reason(report: LoraReport, arches: Sequence[Arch], title: str) -> str:
    if report.unsupported:
        kinds = " and ".join(report.unsupported)
        return f"its modules are {kinds}, which this version can't apply."
    if report.elsewhere and not report.unmatched and not report.mismatched:
        return (
            f"all of it ({counted(report.elsewhere, 'module')}) is for a model that is not given, "
            f"e.g. {report.elsewhere[0]!r}; the checkpoint is {title}."
        )
    if report.mismatched:
        first = report.mismatched[0]
        return (
            f"{counted(report.mismatched, 'module')} of another shape than in {title}, e.g. {first['name']!r}: "
            f"expected {first['expected']}, found {first['found']}; the LoRA is for another model."
        )
    looks = f" (looks like {_a(arches)} LoRA)" if arches else ""
    return (
        f"none of its {report.modules_total} modules has a place in {title}, e.g. {report.unmatched[0]!r}{looks}; "
        "use a LoRA made for this model."
    )


def _judge(report: LoraReport, on_unmatched: OnUnmatched, title: str) -> Iterable[str]:
    """Return warnings for what has no place, or raise UnmatchedError where the policy says so."""
    problems: list[str] = []
    if report.unmatched:
        problems.append(
            f"{counted(report.unmatched, 'module')} without a place in {title}: {some_names(report.unmatched)}"
        )
    if report.mismatched:
        names = some_names([item["name"] for item in report.mismatched])
        problems.append(f"{counted(report.mismatched, 'module')} of another shape than in {title}: {names}")
    for kind, modules in report.unsupported.items():
        problems.append(f"{counted(modules, kind + ' module')} not applied by this version: {some_names(modules)}")
    if problems and on_unmatched == "error":
        raise UnmatchedError(f"{report.name}: {'; '.join(problems)}.")
    return [f"{report.name}: {problem}." for problem in problems]


def _a(arches: Sequence[Arch]) -> str:
    titles = " or ".join(arch.title for arch in arches)
    return f"{'an' if titles.startswith('S') and titles[1:2].isupper() else 'a'} {titles}"
