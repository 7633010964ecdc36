"""Convert a LoRA: the same change under the names of another dialect, as the same kinds or as plain LoRA."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Literal

from ...algebra.rounding import round_to
from ...errors import LoraError, NothingMatchedError, OptionError, UnmatchedError
from ...files.dtypes import DTYPE_NAMES, torch_dtype
from ...lazytorch import torch
from ...naming.dialects import WRITINGS, Writing
from ...options.convert import CONVERT
from ...options.shared import WrittenDialect
from ...parallel.asking import cancellable
from ...parallel.progress import OnStep
from ...reading.checkpoint import Checkpoint
from ...reading.lorafile import LoraFile, LoraSource
from ...report import Report, Stopwatch
from ...shortage import tells_shortages
from ...stack.matching import describe_lora
from ...stack.opened import StackedLora
from ...stack.refusals import OnUnmatched
from ...text import counted, some_names
from ...writing.converter import Converter, Made, kept_tensors, not_converted
from ...writing.model import ModelNames, choose_model
from ...writing.peft import peft_file_config
from ...writing.plan import Plan, plan
from ...writing.work import LoraWork
from .summary import converted_metadata, layer_of, peft_modules_of_made, warn


@tells_shortages
def convert(
    file: LoraSource,
    out: str | os.PathLike[str],
    *,
    dialect: WrittenDialect,
    arch: str = "",
    base: str | os.PathLike[str] | None = None,
    kind: Literal["keep", "lora"] = "keep",
    rank: int = 0,
    dtype: Literal["keep", "fp16", "bf16", "fp32"] = "keep",
    on_unmatched: OnUnmatched = "warn",
    overwrite: bool = False,
    on_step: OnStep | None = None,
) -> Report:
    """Write the LoRA `file` to `out` under the names of `dialect`, with the same delta on every weight.

    The model is `arch` (an id), or that of the checkpoint `base`, or else the one that the file's names and shapes
    fit. Adapters keep their kind; where a fused weight has to be cut or joined and the kind has no such form, and all
    of them with `kind="lora"`, they become plain LoRA, exactly or, with a `rank`, with the error in the report. Kinds
    that read the weight need `base` for that. With dtype "keep", a factor that a new scale would round becomes fp32.

    Raises a LoraError that says what is wrong; then no file is left.
    """
    given = {"dialect": dialect, "kind": kind, "rank": rank, "dtype": dtype, "on_unmatched": on_unmatched}
    for name, value in given.items():
        CONVERT.option(name).check(value)
    report, writing = Report("convert"), WRITINGS[dialect]
    watch = Stopwatch(report)
    with cancellable(on_step) as step, ExitStack() as files:
        lora = files.enter_context(LoraFile(file))
        checkpoint = files.enter_context(Checkpoint(base)) if base else None
        work = files.enter_context(LoraWork(
            report, Path(out), {**given, "arch": arch}, step,
            overwrite=overwrite, dialect=dialect, stack=[StackedLora(lora)], base=checkpoint,
        ))  # fmt: skip
        model = choose_model(lora, arch, checkpoint, writing)
        todo = plan(lora, model.keymap, writing, model.diffusers)
        _fill(report, lora, model, todo, on_unmatched)
        _refuse_several_models(lora, todo, writing)
        made = _made(Converter(lora, checkpoint, kind == "lora", rank), todo, writing, work.step)
        tensors = _tensors(lora, made, todo, writing, dtype, report)
        modules = peft_modules_of_made(made, writing)
        warn(report, made, writing, set(tensors))
        metadata = converted_metadata(lora, model, made, modules, writing)
        config = peft_file_config(modules, model.module_names(writing)) if work.has_config and modules else ""
        work.write(tensors, metadata, config)
    return watch.stop()


def _fill(report: Report, lora: LoraFile, model: ModelNames, todo: Plan, on_unmatched: OnUnmatched) -> None:
    """Describe the file in the report; raises where nothing, or not all that was asked for, has a place."""
    described = describe_lora(lora)
    missing = todo.tell(described)
    report.inputs, report.loras = [lora.file.described()], [described]
    report.arch, report.title, report.warnings = model.id, model.title, list(lora.warnings)
    if not todo.jobs:
        raise NothingMatchedError(
            f"{lora.name}: nothing to convert: none of its {described.modules_total} modules has a place in "
            f"{model.title}, e.g. {lora.modules[0]!r}; name the model with --arch, or give it with --base."
        )
    if missing and on_unmatched == "error":
        raise UnmatchedError(
            f"{lora.name}: {counted(missing, 'module')} without a place in {model.title}: {some_names(missing)}."
        )
    if missing and on_unmatched == "warn":
        report.warnings.append(
            f"{lora.name}: {counted(missing, 'module')} without a place in {model.title} keep their names: "
            f"{some_names(missing)}."
        )


def _refuse_several_models(lora: LoraFile, todo: Plan, writing: Writing) -> None:
    titles = {job.slot.component.arch.title for job in todo.jobs}
    if writing.is_for_one_model and len(titles) > 1:
        raise OptionError(
            f"{lora.name}: has modules of {' and '.join(sorted(titles))}, but a PEFT file is for one model; "
            "choose the dialect diffusers."
        )


def _made(converter: Converter, todo: Plan, writing: Writing, on_step: OnStep | None) -> list[Made]:
    made: list[Made] = []
    for number, job in enumerate(todo.jobs):
        if on_step:
            on_step(number, len(todo.jobs))
        made.append(converter.made(job))
    if writing.has_alpha:
        return made
    loras = {item.job.slot.name for item in made if item.parts.kind == "lora"}
    return [
        # PEFT's name for a bias, which it reads beside a LoRA only
        replace(item, parts=replace(item.parts, kind="bias"))
        if item.parts.kind == "full" and item.job.slot.param == "bias" and item.job.slot.name in loras
        else item
        for item in made
    ]


def _own_names(
    lora: LoraFile, item: Made, writing: Writing, others: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return an item's tensors; raises LoraError if another one has a name of theirs."""
    own = item.tensors(writing)
    if any(name in others and not torch.equal(others[name], tensor) for name, tensor in own.items()):
        raise LoraError(
            f"{lora.name}: {item.job.slot.name}: several of its adapters change this weight, and would have one name "
            "as plain LoRA; use Combine LoRAs on this file alone, which sums them."
        )
    return own


def _tensors(
    lora: LoraFile, made: Sequence[Made], todo: Plan, writing: Writing, dtype: str, report: Report
) -> dict[str, torch.Tensor]:
    """Return all tensors to write, and fill in the report's layers."""
    tensors = dict(kept_tensors(lora, list(not_converted(lora, list(made), todo.kept)), todo.kept))
    before = {info.dtype for name, info in lora.file.items() if not name.endswith(".alpha")}
    for item in made:
        tensors.update(_own_names(lora, item, writing, tensors))
        if not item.job.is_rename or item.recast:
            report.layers.append(layer_of(item))
    if dtype == "keep":
        wider = [name for name, t in tensors.items() if t.dtype == torch.float32 and not name.endswith(".alpha")]
        if wider and "F32" not in before:
            report.notes.append(f"{counted(wider, 'tensor')} in fp32, as the file's own number format would round them")
        return tensors
    wanted = torch_dtype(DTYPE_NAMES[dtype])
    clamped = 0
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not name.endswith(".alpha"):
            tensors[name], outside = round_to(tensor.float(), wanted)
            clamped += outside
    if clamped:
        report.warnings.append(f"{clamped} values were beyond the range of the written number format and were clamped.")
    return tensors
