"""Combine LoRAs: a stack as one LoRA, exactly, at a lower rank, or by an experimental method."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .checkpoint import Checkpoint
from .combining.elementwise import Rule, Sign
from .combining.experimental import Experimental
from .combining.onbase import OnBase
from .combining.output import Output, dtype_of, widest_dtype
from .combining.provenance import metadata_of, peft_modules
from .combining.stacked import Member, common_model, in_use, layers_of, members_of, nothing_left, tell
from .combining.summed import Sum, converters_of
from .conversion.model import Model
from .convert import PEFT_FILE
from .errors import OptionError
from .files.outputs import check_target
from .files.scratch import Scratch
from .files.tensorfile import OnStep
from .lorawriter import check_config, peft_file_config, write_config, write_lora
from .matching import OnUnmatched, StackedLora
from .merge import LoraItem, open_stack
from .options import COMBINE
from .ranks import RankRule, rule_of
from .report import Report, Stopwatch, described_file
from .truncation import Truncation
from .writing import WRITINGS, Writing, WrittenDialect

NO_LIMIT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class _Settings:
    """What a user set, checked."""

    method: str
    elementwise: Rule
    rule: RankRule | None  # None: no rank is cut off
    max_rank: int
    writing: Writing
    dtype: str
    arch: str
    on_unmatched: OnUnmatched
    overwrite: bool

    def note(self) -> dict[str, object]:
        """Return the method and its numbers, as the file names them."""
        if self.method == "sum":
            return {"method": "sum"}
        density = {} if self.method == "core_tsv" else {"density": self.elementwise.density}
        sign = {"sign": self.elementwise.sign} if self.method.endswith("ties") else {}
        seed = {"seed": self.elementwise.seed} if "dare" in self.method else {}
        return {"method": self.method, "experimental": True, **density, **sign, **seed}

    @property
    def named(self) -> str:
        """The same for people."""
        if self.method == "sum":
            return "sum"
        numbers = [f"{name} {value}" for name, value in self.note().items() if name not in ("method", "experimental")]
        return ", ".join([f"experimental: {self.method}", *numbers])


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
    rule = _rule(rank, energy, max_rank, rank_by, threshold, has_base=base is not None)
    settings = _Settings(method, elementwise, rule, max_rank, WRITINGS[dialect], dtype, arch, on_unmatched, overwrite)
    report = Report("combine")
    watch = Stopwatch(report)
    with ExitStack() as files:
        checkpoint = files.enter_context(Checkpoint(base)) if base else None
        stack = in_use(open_stack(loras, "paper", files), method, report)
        _Combination(settings, stack, checkpoint, Path(out), report).write(files, on_step)
    return watch.stop()


@dataclass(frozen=True, slots=True)
class _Combination:
    """One run: the open files, and where the result goes."""

    settings: _Settings
    stack: Sequence[StackedLora]
    base: Checkpoint | None
    out: Path
    report: Report

    def write(self, files: ExitStack, on_step: OnStep | None) -> None:
        settings, writing = self.settings, self.settings.writing
        inputs = [*(item.lora.path for item in self.stack), *(self.base.paths if self.base else ())]
        has_config = writing.id == "peft" and self.out.name == PEFT_FILE
        check_target(self.out, settings.overwrite, inputs)
        if has_config:
            check_config(self.out, settings.overwrite)
        model = common_model([item.lora for item in self.stack], settings.arch, self.base, writing)
        members = members_of(self.stack, model, writing)
        self.report.inputs = [described_file(item.lora.path) for item in self.stack]
        tell(members, model, settings.on_unmatched, self.report)
        output = self._output(files.enter_context(Scratch(self.out)))
        self._make(members, model, output, on_step)
        tensors = output.finish()
        if not self.report.layers:
            raise nothing_left(members)
        output.say(settings.named)
        modules = [] if writing.has_alpha else peft_modules(self.report.layers, writing, output.magnitudes)
        metadata = metadata_of(self.stack, model, self.report.layers, output.alphas, modules, settings.note())
        for item in self.stack:
            item.lora.file.check_unchanged()
        write_lora(self.out, tensors, metadata, inputs, self.report, overwrite=settings.overwrite)
        if has_config and modules:
            write_config(self.out, peft_file_config(modules, model.module_names(writing)), self.report)

    def _output(self, scratch: Scratch) -> Output:
        settings = self.settings
        dtype = (
            widest_dtype([item.lora for item in self.stack]) if settings.dtype == "keep" else dtype_of(settings.dtype)
        )
        rule = settings.rule or RankRule("rank", 0.0, NO_LIMIT)
        return Output(Truncation(rule, 0, dtype, scratch, self.report), settings.writing, dtype, self.report)

    def _make(self, members: Sequence[Member], model: Model, output: Output, on_step: OnStep | None) -> None:
        settings, layers = self.settings, layers_of(members, model)
        titles = {layer.slot.component.arch.title for layer in layers}
        if settings.writing.id == "peft" and len(titles) > 1:
            raise OptionError(
                f"dialect: a PEFT file is for one model, but the LoRAs change {' and '.join(sorted(titles))}; "
                "choose diffusers."
            )
        on_base = OnBase(self.base, members)
        maker: Sum | Experimental
        maker = Sum(output, on_base, converters_of(members, on_base), settings.rule, settings.max_rank)
        if settings.method != "sum":
            rule, max_rank = settings.rule, settings.max_rank
            maker = Experimental(settings.method, settings.elementwise, output, on_base, maker, rule, max_rank)
        for number, layer in enumerate(layers):
            if on_step:
                on_step(number, len(layers))
            maker.make(layer)
        if on_step:
            on_step(len(layers), len(layers))


def _rule(
    rank: int, energy: float, max_rank: int, rank_by: str, threshold: float, *, has_base: bool
) -> RankRule | None:
    """Return what decides ranks, None where no rank is to be cut off."""
    if not rank and (rank_by == "rank" or (rank_by == "auto" and not energy)):
        return None
    if rank_by == "relative" and not has_base:
        raise OptionError("rank_by: relative compares with the weights, so it needs the model: give it with --base.")
    return rule_of(rank=rank, energy=energy, max_rank=max_rank, rank_by=rank_by, threshold=threshold)
