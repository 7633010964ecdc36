"""Extract a LoRA: what changed between a base and what was made of it, at ranks that a rule or a budget chooses."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from ...algebra.ranks import rule_of
from ...errors import OptionError
from ...files.dtypes import DTYPE_NAMES, torch_dtype
from ...files.scratch import Scratch, Sizes
from ...options.extract import EXTRACT
from ...options.shared import NO_FILE, WrittenDialect
from ...parallel.asking import cancellable
from ...parallel.progress import OnStep
from ...reading.checkpoint import Checkpoint
from ...receipts.receipt import Receipt
from ...report import Report, Stopwatch
from ...shortage import tells_shortages
from ...stack.opened import LoraItem, open_stack
from ...stack.pairs import NO_PAIR, unused
from ...writing.layers import Ranked, Truncation
from ...writing.lorafile import lora_size
from ...writing.work import LoraWork
from .comparison import Comparison, ModelSource
from .layers import Extraction, Kind
from .models import ModelPair, pair_of
from .names import jobs_of, outside
from .stack import Stacked, stacked_on
from .summary import extracted_config, extracted_metadata, nothing, tell_extraction

Model = str | os.PathLike[str] | ModelSource  # a file, a model folder, or a model that is open already


@tells_shortages
def extract(
    base: Model,
    tuned: Model | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    loras: Iterable[LoraItem] = (),
    rank: int = 32,
    energy: float = 0.0,
    max_rank: int = 128,
    conv_rank: int = 0,
    rank_by: str = "auto",
    threshold: float = 0.0,
    kind: Kind = "lora",
    clamp: float = 1.0,
    estimate_only: bool = False,
    dialect: WrittenDialect = "kohya",
    dtype: Literal["fp16", "bf16", "fp32"] = "fp16",
    overwrite: bool = False,
    on_step: OnStep | None = None,
) -> Report:
    """Write the difference `tuned` - `base` as a LoRA to `out`; with `loras` instead, what they change in `base`.

    Matrices and convolutions become LoRA and LoCon: at `rank`, or, if `energy` is above 0, at the smallest rank up to
    `max_rank` that keeps that share of the layer's squared change; `rank_by` and `threshold` choose another rule of
    `ranks`, or a budget of all layers. `conv_rank` above 0 is the limit for kernels above 1x1. Biases, norms and other
    vectors are stored whole, or left out with a warning where the dialect has no way to. alpha = rank, sqrt(S) on both
    factors, cut at the quantile `clamp` only if it is below 1. `kind="dora"` fits directions and stores magnitudes.
    `estimate_only` writes nothing and needs no `out`. Each of `loras` is what `merge` takes.

    Models are read tensor by tensor and factors wait on disk; memory holds one layer. Raises a LoraError that says what
    is wrong; then, as on any other exception, no file is left.
    """
    numbers = {"rank": rank, "energy": energy, "max_rank": max_rank, "conv_rank": conv_rank, "threshold": threshold}
    chosen = {"rank_by": rank_by, "kind": kind, "clamp": clamp, "dialect": dialect, "dtype": dtype}
    for name, value in {**numbers, **chosen}.items():
        EXTRACT.option(name).check(value)
    rule = rule_of(rank=rank, energy=energy, max_rank=max_rank, rank_by=rank_by, threshold=threshold)
    report = Report("extract")
    watch = Stopwatch(report)
    with cancellable(on_step) as step, ExitStack() as files:
        compared = _compared(base, tuned, loras, report, files)
        target = None if estimate_only else _target(out)
        work = files.enter_context(_work(compared, report, target, {**numbers, **chosen}, overwrite, step))
        tensors = files.enter_context(Sizes() if target is None else Scratch(target))
        made = Truncation(rule, conv_rank, torch_dtype(DTYPE_NAMES[dtype]), tensors, report, clamp)
        metadata = _extracted(Extraction(compared, dialect, kind, made, work.step), work.receipt)
        if target is None:
            work.check_unchanged()
        else:
            work.write(tensors, metadata, extracted_config(compared, dialect, made, kind) if work.has_config else "")
    return watch.stop()


def _work(
    compared: Comparison,
    report: Report,
    target: Path | None,
    options: dict[str, Any],
    overwrite: bool,
    on_step: OnStep | None,
) -> LoraWork:
    stack = compared.stack if isinstance(compared, Stacked) else ()
    tuned = compared.after if isinstance(compared, ModelPair) else None
    return LoraWork(
        report,
        target,
        options,
        on_step,
        overwrite=overwrite,
        dialect=str(options["dialect"]),
        stack=stack,
        base=compared.before,
        tuned=tuned,
    )


def _extracted(work: Extraction, receipt: Receipt) -> dict[str, str]:
    """Fill the LoRA and the report, and return the file's metadata; raises LoraError if there is nothing to write."""
    compared, made = work.compared, work.made

    def described(ranked: Sequence[Ranked]) -> dict[str, str]:
        return {**extracted_metadata(compared, work.dialect, ranked, work.kind), **receipt.metadata()}

    made.metadata_of = described
    work.run(jobs_of(compared, work.dialect))
    if not made.tensors:
        raise nothing(compared, work.left_out)
    made.finish()
    components = compared.before.keymap.components
    tell_extraction(made.report, work, outside(components, len(compared.before.shapes)))
    metadata = described(made.decided)
    made.report.predicted_bytes = lora_size(made.tensors.planned(), metadata)
    return metadata


def _compared(
    base: Model, tuned: Model | None, loras: Iterable[LoraItem], report: Report, files: ExitStack
) -> Comparison:
    """Open everything; `files` closes it."""
    loras = list(loras)
    stack = open_stack(loras, "paper", files)
    report.warnings += unused(loras, NO_PAIR)
    if (tuned is None) == (not stack):
        found = "none of them" if tuned is None else "both"
        raise OptionError(f"extract: expected a tuned model or LoRAs to compare the base with; found {found}.")
    before = _opened(base, files)
    report.arch, report.title = before.arch, before.title
    return stacked_on(before, stack, report) if tuned is None else pair_of(before, _opened(tuned, files), report)


def _opened(model: Model, files: ExitStack) -> ModelSource:
    if isinstance(model, (str, os.PathLike)):
        return files.enter_context(Checkpoint(model))
    return model


def _target(out: str | os.PathLike[str] | None) -> Path:
    if out is None:
        raise OptionError("out: expected the name of the file to write; give it, or ask for an estimate only.")
    return Path(out)


def check_choice(base: str, tuned: str, model_base: Any, model_tuned: Any, lora_stack: Any, **_: Any) -> None:
    """Raise OptionError, saying what to choose or to connect, unless the node's inputs give one of each side."""
    has_base = (base != NO_FILE) + (model_base is not None)
    if has_base == 0:
        raise OptionError("base: choose the checkpoint that was tuned, or connect model_base.")
    if has_base > 1:
        raise OptionError(f"base: both {base} and model_base are given; set base to None or disconnect model_base.")
    sides = {"tuned": tuned != NO_FILE, "model_tuned": model_tuned is not None, "lora_stack": lora_stack is not None}
    given = [name for name, is_there in sides.items() if is_there]
    if not given:
        raise OptionError("tuned: choose the tuned checkpoint, or connect model_tuned or lora_stack.")
    if len(given) > 1:
        raise OptionError(f"tuned: {' and '.join(given)} are given, and one of them is needed; leave the others out.")
    if lora_stack is not None and not lora_stack:
        raise OptionError("lora_stack: is empty; switch on at least one LoRA of the stack.")
