"""What is wrong with a LoRA on a checkpoint: refused, or told as a warning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from ..arch.base import Arch
from ..errors import NothingMatchedError, UnmatchedError
from ..naming.detection import FoundArch, describe
from ..naming.dialects import DIFFUSION, addressed_roles
from ..reading.lorafile import LoraFile
from ..report import LoraReport
from ..text import counted, some_names

_TIED = (
    "lm_head has no weight of its own in this model, it is tied to the embedding, and a change of one would be one of "
    "both: untie them first (store a copy of the embedding as lm_head.weight, tie_word_embeddings false)"
)
OnUnmatched = Literal["warn", "error", "ignore"]


def refuse_foreign(lora: LoraFile, report: LoraReport, found: list[FoundArch]) -> None:
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


def _is_head(name: str) -> bool:
    return name.rpartition(".")[2] == "lm_head"


def _misses_the_diffusion_model(lora: LoraFile, report: LoraReport) -> bool:
    """Tell whether the LoRA has modules for a diffusion model and none of them has a place."""
    missing = {*report.unmatched, *report.elsewhere, *(item["name"] for item in report.mismatched), *lora.unsupported}
    if not any(DIFFUSION in addressed_roles(name) for name in missing):
        return False
    return not any(DIFFUSION in addressed_roles(name) for name in lora.modules if name not in missing)


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
    if all(map(_is_head, report.unmatched)):
        return f"{_TIED}, and the LoRA changes nothing else."
    looks = f" (looks like {_a(arches)} LoRA)" if arches else ""
    return (
        f"none of its {report.modules_total} modules has a place in {title}, e.g. {report.unmatched[0]!r}{looks}; "
        "use a LoRA made for this model."
    )


def judge(report: LoraReport, on_unmatched: OnUnmatched, title: str) -> Iterable[str]:
    """Return warnings for what has no place, or raise UnmatchedError where the policy says so."""
    problems: list[str] = []
    if report.unmatched:
        problems.append(
            f"{counted(report.unmatched, 'module')} without a place in {title}: {some_names(report.unmatched)}"
        )
    if any(map(_is_head, report.unmatched)):
        problems.append(_TIED)
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
