"""What a stack has to be to become one LoRA, and what the report says of what it is not."""

from __future__ import annotations

from collections.abc import Sequence

from ...arch.base import Arch
from ...errors import LoraError, NothingMatchedError, OptionError, UnmatchedError
from ...report import Report
from ...stack.opened import StackedLora, about_blocks
from ...stack.refusals import OnUnmatched
from ...text import counted, some_names
from ...writing.model import ModelNames
from .members import Member


def in_use(stack: Sequence[StackedLora], method: str, report: Report) -> list[StackedLora]:
    """Return the LoRAs whose strength is not 0, and say which are skipped or there twice.

    Raises OptionError for a stack without any, and for a LoRA that is there twice where each counts as a vote.
    """
    if not stack:
        raise OptionError("combine: no LoRA given; name at least one (rows of a stack that are off do not count).")
    used = [item for item in stack if item.strength_model or item.strength_clip]
    skipped = [item.lora.name for item in stack if item not in used]
    report.notes += [f"{name}: strength 0, skipped" for name in skipped]
    if not used:
        raise OptionError(f"combine: every LoRA has strength 0: {some_names(skipped)}; give one another strength.")
    opened = [item.lora.file.identity for item in used]
    for name in dict.fromkeys(item.lora.name for item, one in zip(used, opened, strict=True) if opened.count(one) > 1):
        if method != "sum":
            raise OptionError(
                f"{name}: is in the stack more than once, and {method} weighs LoRAs against each other; "
                "keep one, at the sum of the strengths."
            )
        report.warnings.append(f"{name}: is in the stack more than once; its strengths add up.")
    return used


def tell_stack(members: Sequence[Member], model: ModelNames, on_unmatched: OnUnmatched, report: Report) -> None:
    """Describe the stack in the report.

    Raises NothingMatchedError for a LoRA of another architecture than the others', and UnmatchedError for a module
    without a place, where that is the policy.
    """
    for member in members:
        _refuse_foreign(member, members, model)
    report.arch, report.title = model.id, model.title
    report.loras = [member.report for member in members]
    for member in members:
        report.warnings.extend([*member.lora.warnings, *about_blocks(member.report)])
        names = member.missing
        text = f"{counted(names, 'module')} without a place in {model.title}"
        if names and on_unmatched == "error":
            raise UnmatchedError(f"{member.lora.name}: {text}: {some_names(names)}.")
        if names and on_unmatched == "warn":
            report.warnings.append(f"{member.lora.name}: {text} left out: {some_names(names)}.")


def nothing_left(members: Sequence[Member]) -> LoraError:
    names = some_names([member.lora.name for member in members])
    return LoraError(
        f"{names}: nothing is left: every change is zero, or they cancel each other; change the strengths."
    )


def _refuse_foreign(member: Member, members: Sequence[Member], model: ModelNames) -> None:
    """Raise NothingMatchedError for a LoRA of another model than the others', even if some modules happen to fit."""
    here = {one.arch.id for one in model.keymap.components if one.arch.role == "diffusion"}
    arches, found = member.lora.arches, member.report
    is_foreign = here and arches and here.isdisjoint(arch.id for arch in arches)
    if member.plan.jobs and not (is_foreign and found.modules_matched < found.modules_total):
        return
    name = member.lora.name
    others = [other.lora.name for other in members if other is not member and other.plan.jobs]
    if not is_foreign and not others:
        raise NothingMatchedError(
            f"{name}: none of its {found.modules_total} modules has a place of its shape in {model.title}, e.g. "
            f"{member.lora.modules[0]!r}; name the model with --arch, or give it with --base."
        )
    what = f"is for {_titles(arches)}" if is_foreign else f"has names and shapes such as {member.lora.modules[0]!r}"
    raise NothingMatchedError(
        f"{name}: {what}, but {some_names(others) or 'the model that is given'} is for {model.title}; "
        f"{found.modules_matched} of {found.modules_total} modules would fit. "
        "LoRAs become one only if all are for one model: combine those of each model apart."
    )


def _titles(arches: Sequence[Arch]) -> str:
    return " or ".join(arch.title for arch in arches)
