"""Combine LoRAs: a stack as one LoRA, exactly, at a lower rank, or by an experimental method."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...errors import OptionError
from ...files.dtypes import DTYPE_NAMES, torch_dtype
from ...files.scratch import Scratch
from ...naming.dialects import WRITINGS
from ...options.combine import COMBINE, DENSE_METHODS
from ...options.shared import WrittenDialect
from ...parallel.ahead import ahead
from ...parallel.asking import cancellable
from ...parallel.progress import OnStep
from ...reading.checkpoint import Checkpoint
from ...report import Report, Stopwatch
from ...shortage import tells_shortages
from ...stack.opened import LoraItem, StackedLora, open_stack
from ...stack.pairs import NO_PAIR, unused
from ...stack.refusals import OnUnmatched
from ...writing.layers import Truncation
from ...writing.model import ModelNames, common_model
from ...writing.peft import PeftModule, peft_file_config
from ...writing.work import LoraWork
from .changes import is_dense
from .elementwise import Rule, Sign
from .experimental import Experimental
from .members import Member, StackedLayer, layers_of, members_of
from .metadata import combined_metadata, peft_modules_of_layers
from .onbase import OnBase
from .output import Output, Result
from .refusals import in_use, nothing_left, tell_stack
from .settings import Limits, Settings, rank_rule, widest_dtype
from .summed import Sum, converters_of


@tells_shortages
def combine(
    loras: Iterable[LoraItem],
    out: str | os.PathLike[str],
    *,
    method: str = "sum",
    rank: int = 0,
    energy: float = 0.0,
    max_rank: int = 128,
    rank_by: str = "auto",
    threshold: float = 0.0,
    density: float = 0.5,
    sign: Sign = "weighted",
    seed: int = 0,
    dialect: WrittenDialect = "kohya",
    dtype: Literal["keep", "fp16", "bf16", "fp32"] = "keep",
    arch: str = "",
    base: str | os.PathLike[str] | None = None,
    on_unmatched: OnUnmatched = "warn",
    overwrite: bool = False,
    on_step: OnStep | None = None,
) -> Report:
    """Write a stack of LoRAs to `out` as one LoRA, under the names of `dialect`.

    Each of `loras` is a path, (path, strength) or (path, strength_model, strength_clip). Without a `rank` or another
    rule for ranks, method "sum" is exact: factors are put side by side. A kind that has no factors is fitted, at most
    at `max_rank`, with the error in the report; one that reads the weight (DoRA, OFT) needs `base` for that, and then
    counts in stack order. The other methods are experimental (`options.combine`); TIES, DARE and magnitude pruning on
    dense changes give up to the sum of the ranks, at most `max_rank`, if nothing else is asked for.

    Files are read layer by layer, and the result waits on disk. Raises a LoraError that says what is wrong; then no
    file is left.
    """
    given = {
        "method": method, "rank": rank, "energy": energy, "max_rank": max_rank, "rank_by": rank_by, "seed": seed,
        "threshold": threshold, "density": density, "sign": sign, "dialect": dialect, "dtype": dtype,
        "on_unmatched": on_unmatched,
    }  # fmt: skip
    for name, value in given.items():
        COMBINE.option(name).check(value)
    elementwise = Rule(method.removeprefix("core_"), density, sign, seed)
    rule = rank_rule(rank, energy, max_rank, rank_by, threshold, has_base=base is not None)
    settings = Settings(
        method, elementwise, Limits(rule, max_rank), WRITINGS[dialect], dtype, arch, on_unmatched, overwrite
    )
    report = Report("combine")
    watch = Stopwatch(report)
    with cancellable(on_step) as step, ExitStack() as files:
        checkpoint = files.enter_context(Checkpoint(base)) if base else None
        items = list(loras)
        stack = in_use(open_stack(items, "paper", files), method, report)
        report.warnings += unused(items, NO_PAIR)
        work = files.enter_context(LoraWork(
            report, Path(out), {**given, "arch": arch}, step,
            overwrite=overwrite, dialect=dialect, stack=stack, base=checkpoint,
        ))  # fmt: skip
        scratch = files.enter_context(Scratch(Path(out)))
        _Combination(settings, stack, checkpoint, report, work).write(scratch)
    return watch.stop()


@dataclass(frozen=True, slots=True)
class _Combination:
    """One run: the open files, and where the result goes."""

    settings: Settings
    stack: Sequence[StackedLora]
    base: Checkpoint | None
    report: Report
    work: LoraWork

    def write(self, scratch: Scratch) -> None:
        settings, writing = self.settings, self.settings.writing
        model = common_model([item.lora for item in self.stack], settings.arch, self.base, writing)
        members = members_of(self.stack, model, writing)
        self.report.inputs = [item.lora.file.described() for item in self.stack]
        tell_stack(members, model, settings.on_unmatched, self.report)
        output = self._output(scratch, model)
        self._make(members, model, output, self.work.step)
        tensors = output.finish()
        if not self.report.layers:
            raise nothing_left(members)
        output.say(settings.named)
        metadata, modules = self._metadata(model, output, self.report.layers)
        has_config = self.work.has_config and bool(modules)
        self.work.write(tensors, metadata, peft_file_config(modules, model.module_names(writing)) if has_config else "")

    def _output(self, scratch: Scratch, model: ModelNames) -> Output:
        settings = self.settings
        dtype = (
            widest_dtype([item.lora for item in self.stack])
            if settings.dtype == "keep"
            else torch_dtype(DTYPE_NAMES[settings.dtype])
        )
        truncation = Truncation(settings.limits.deciding, 0, dtype, scratch, self.report)
        output = Output(truncation, settings.writing, dtype, self.report)
        truncation.metadata_of = lambda ranked: self._metadata(model, output, output.layers_with(ranked))[0]
        return output

    def _metadata(
        self, model: ModelNames, output: Output, layers: Sequence[Mapping[str, Any]]
    ) -> tuple[dict[str, str], list[PeftModule]]:
        """Return (metadata, what PEFT's configuration tells of) of a file with these layers of a report."""
        writing = self.settings.writing
        modules = [] if writing.has_alpha else peft_modules_of_layers(layers, writing, output.magnitudes)
        alphas = output.alphas if writing.has_alpha else None
        known = combined_metadata(self.stack, model, layers, alphas, modules, self.settings.note())
        return {**known, **self.work.receipt.metadata()}, modules

    def _make(self, members: Sequence[Member], model: ModelNames, output: Output, on_step: OnStep | None) -> None:
        settings, layers = self.settings, layers_of(members, model)
        titles = {layer.slot.component.arch.title for layer in layers}
        if settings.writing.is_for_one_model and len(titles) > 1:
            raise OptionError(
                f"dialect: a PEFT file is for one model, but the LoRAs change {' and '.join(sorted(titles))}; "
                "choose diffusers."
            )
        on_base = OnBase(self.base, members)
        summed = Sum(on_base, converters_of(members, on_base), settings.limits, settings.writing.has_alpha)
        maker: Sum | Experimental = summed
        if settings.method != "sum":
            maker = Experimental(settings.method, settings.elementwise, on_base, summed, settings.limits)
        needs_norms = settings.limits.rule is not None and settings.limits.rule.needs_weight
        with closing(_results(maker, layers, settings.method)) as results:
            for number, (layer, result) in enumerate(results):
                if on_step:
                    on_step(number, len(layers))
                output.put(layer, result, on_base.norm(layer.slot) if needs_norms else None)
        if on_step:
            on_step(len(layers), len(layers))


def _results(
    maker: Sum | Experimental, layers: Sequence[StackedLayer], method: str
) -> Generator[tuple[StackedLayer, Result], None, None]:
    """Yield every layer with what becomes of it: first those of factors, a few ahead, then one dense one at a time."""
    dense = {layer.key for layer in layers if method in DENSE_METHODS or is_dense(layer)}
    yield from ahead(lambda layer: (layer, maker.result(layer)), [one for one in layers if one.key not in dense])
    for layer in layers:
        if layer.key in dense:
            yield layer, maker.result(layer)
