"""Resize a LoRA: the closest one of another rank, computed from its factors and written under its own names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Literal

from ...adapters import KINDS, LoRA
from ...algebra.ranks import rule_of
from ...errors import LoraError
from ...files.dtypes import DTYPE_NAMES, torch_dtype
from ...files.scratch import Scratch
from ...lazytorch import torch
from ...options.resize import RESIZE
from ...parallel.ahead import ahead
from ...parallel.asking import cancellable, each
from ...parallel.progress import OnStep
from ...reading.checkpoint import Checkpoint
from ...reading.lorafile import LoraFile, LoraSource
from ...receipts.receipt import Receipt
from ...report import Report, Stopwatch
from ...shortage import tells_shortages
from ...stack.matching import describe_lora
from ...stack.opened import StackedLora
from ...text import counted, some_names
from ...writing.converter import kept_tensors
from ...writing.layers import Ranked
from ...writing.peft import PEFT_FILE, config_text
from ...writing.work import LoraWork
from .layers import Resizing, factor_dtype
from .metadata import configs_of, resized_metadata
from .sources import Resizable, sources_of
from .spectra import SpectrumFinder
from .summary import compare, how, tell_resizing

# LoCon is a name for LoRA on convolutions
_FACTORED = dict.fromkeys((LoRA.kind, "LoCon", *(kind.kind for kind in KINDS.values() if kind.has_factors)))


@tells_shortages
def resize(
    file: LoraSource,
    out: str | os.PathLike[str],
    *,
    rank: int = 32,
    energy: float = 0.0,
    max_rank: int = 128,
    conv_rank: int = 0,
    rank_by: str = "auto",
    threshold: float = 0.0,
    dtype: Literal["keep", "fp16", "bf16", "fp32"] = "keep",
    base: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    on_step: OnStep | None = None,
) -> Report:
    """Write the LoRA `file` to `out` at another rank, under the same names.

    Every LoRA, LoCon (a Tucker core is folded in), LoHa and LoKr becomes the plain LoRA that is closest to its change
    (Eckart & Young), its scale folded into the factors; alpha is the rank. What has no higher rank stays as it is, byte
    for byte, and so do biases, norms, full differences and kinds without factors. Layers of zeros are left out. DoRA
    keeps its magnitudes; with the `base` the cut is the one that turns its weights the least. `rank_by` and the numbers
    are `lora_core.algebra.ranks`' rules; "relative" needs `base`. With dtype "keep" new factors are in the layer's own.

    Raises a LoraError that says what is wrong; then no file is left.
    """
    given = {
        "rank": rank, "energy": energy, "max_rank": max_rank, "conv_rank": conv_rank, "rank_by": rank_by,
        "threshold": threshold, "dtype": dtype,
    }  # fmt: skip
    for name, value in given.items():
        RESIZE.option(name).check(value)
    rule = rule_of(rank=rank, energy=energy, max_rank=max_rank, rank_by=rank_by, threshold=threshold)
    wanted = None if dtype == "keep" else torch_dtype(DTYPE_NAMES[dtype])
    report = Report("resize")
    watch = Stopwatch(report)
    with cancellable(on_step) as step, ExitStack() as files:
        lora = files.enter_context(LoraFile(file))
        checkpoint = files.enter_context(Checkpoint(base)) if base else None
        work = files.enter_context(LoraWork(
            report, Path(out), given, step,
            overwrite=overwrite, dialect=lora.dialect, stack=[StackedLora(lora)], base=checkpoint,
        ))  # fmt: skip
        scratch = files.enter_context(Scratch(Path(out)))
        resizing = Resizing(rule, conv_rank, wanted, scratch, report, lora=lora, wanted=wanted)
        _describe(report, lora, checkpoint)
        resizing.metadata_of = partial(_metadata, resizing, work.receipt)
        _take_all(resizing, lora, checkpoint, work.step)
        tensors = resizing.finish()
        tell_resizing(report, resizing, checkpoint is not None)
        config = configs_of(lora, resizing.written)
        metadata = resized_metadata(lora, resizing.written, how(resizing), config)
        has_config = work.has_config and bool(config)
        work.write(tensors, metadata, config_text(next(iter(config.values()))) if has_config else "")
        if lora.dialect == "peft" and not has_config:
            report.notes.append(f"PEFT itself loads it from a folder of its own, where the output is {PEFT_FILE}")
    if any(item.kind == "lora" and not item.source.is_lora for item in resizing.written):
        compare(report)
    return watch.stop()


def _describe(report: Report, lora: LoraFile, checkpoint: Checkpoint | None) -> None:
    report.inputs = [lora.file.described(), *([checkpoint.described()] if checkpoint else [])]
    report.loras, report.warnings = [describe_lora(lora)], list(lora.warnings)


def _take_all(resizing: Resizing, lora: LoraFile, checkpoint: Checkpoint | None, on_step: OnStep | None) -> None:
    """Take every layer, and first all that stays as it is, which counts in a budget."""
    sources = list(sources_of(lora, checkpoint))
    if not sources:
        raise LoraError(
            f"{lora.name}: nothing to resize: its kinds ({', '.join(lora.kinds)}) have no factors; "
            f"{', '.join(_FACTORED)} and DoRA have."
        )
    _keep_others(resizing, lora, sources)
    if resizing.rule.is_budget:  # which counts bytes before it is known which layers get any
        resizing.dtype = resizing.wanted or max(map(factor_dtype, sources), key=lambda dtype: dtype.itemsize)
    finder = SpectrumFinder(lora, checkpoint, resizing.rule.needs_weight, resizing.limit)
    homeless: list[str] = []
    with closing(ahead(finder.found, sources)) as layers:
        for number, found in enumerate(layers):
            if on_step:
                on_step(number, len(sources))
            resizing.take(found)
            homeless += [found.source.module] if found.is_homeless else []
    if on_step:
        on_step(len(sources), len(sources))
    if homeless:
        resizing.report.warnings.append(
            f"{counted(homeless, 'DoRA module')} without a place in the base, cut without it: {some_names(homeless)}."
        )


def _keep_others(resizing: Resizing, lora: LoraFile, sources: Sequence[Resizable]) -> None:
    """Take the tensors of all other adapters, and of none; a scale that only the header told is folded in."""
    own = {name for source in sources for name in source.own_names()}
    scaled: dict[str, torch.Tensor] = {}
    kept: Counter[str] = Counter()
    for spec in each(lora.adapters):
        if own.isdisjoint(spec.tensor_names()):
            scaled.update(kept_tensors(lora, [], [spec]))
            kept.update(spec.kinds)
    kept.update(lora.unsupported.values())
    for name in each(lora.file):
        if name not in own:
            resizing.stored(name, scaled.get(name, lora.file.tensor(name)))
    if kept:
        what = ", ".join(f"{number} × {kind}" for kind, number in sorted(kept.items()))
        resizing.report.notes.append(f"kept as they are, without a rank to change: {what}")


def _metadata(resizing: Resizing, receipt: Receipt, ranked: Sequence[Ranked]) -> dict[str, str]:
    """Return the metadata if a budget gives layers these ranks, as large as it will be."""
    written = resizing.would_write(ranked)
    known = resized_metadata(resizing.lora, written, how(resizing), configs_of(resizing.lora, written))
    return {**known, **receipt.metadata()}
