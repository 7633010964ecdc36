"""What the report says of an extraction as a whole, and what the file says of itself."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ...errors import LoraError
from ...naming.dialects import WRITINGS
from ...options.shared import WrittenDialect
from ...report import Report
from ...text import counted, some_names
from ...writing.layers import Ranked, Truncation
from ...writing.lorafile import rank_metadata
from ...writing.names import written
from ...writing.peft import PeftModule, peft_file_config, peft_metadata
from .comparison import Comparison
from .layers import Extraction
from .models import ModelPair, is_same_model
from .stack import Stacked


def tell_extraction(report: Report, work: Extraction, elsewhere: int) -> None:
    """Fill in the notes and warnings, once every layer has its rank."""
    layers, packed = report.layers, work.compared.packed()
    more = f", {len(packed)} not compared" if packed else ""
    report.notes.append(
        f"{len(layers)} changed, {work.unchanged} unchanged, {elsewhere} outside the known models{more}"
    )
    whole = math.fsum(layer["norm"] ** 2 for layer in layers)
    kept = math.fsum(layer["energy"] * layer["norm"] ** 2 for layer in layers) / whole if whole else 1.0
    ranks = [layer["rank"] for layer in layers if layer["rank"] is not None]
    report.notes.append(
        f"keeps {kept:.2%} of the change{' that was compared' if packed else ''}, "
        f"relative error {math.sqrt(max(0.0, 1 - kept)):.2%}" + _span(ranks)
    )
    if work.kind == "dora":
        report.notes[-1] = report.notes[-1].replace("of the change", "of the change of directions")
        report.notes += [work.errors.note()] if work.errors.change else []
    report.notes += _about_ranks(work)
    report.warnings += _warnings(work)
    if packed:
        report.warnings.append(
            f"{counted(packed, 'weight')} not compared, as they are packed in a way that can't be read here, so what "
            f"changed in them is not in the LoRA: {some_names(packed)}; load the models as fp16 or bf16."
        )


def extracted_metadata(
    compared: Comparison, dialect: WrittenDialect, ranked: Iterable[Ranked], kind: str
) -> dict[str, str]:
    """Return the keys that other tools look for: kohya's minimum set, the model spec, PEFT's configuration."""
    several = list(ranked)
    ranks = [item.rank for item in several]
    has_alpha = WRITINGS[dialect].has_alpha
    modules = _peft_modules(several, dialect, kind)
    return {
        **rank_metadata(ranks, ranks if has_alpha else None),
        "ss_base_model_version": compared.before.arch,
        "modelspec.architecture": f"{compared.before.arch}/lora",
        **({} if has_alpha or not modules else peft_metadata(modules)),
    }


def extracted_config(compared: Comparison, dialect: WrittenDialect, made: Truncation, kind: str) -> str:
    """Return the text of PEFT's configuration for the file; empty if no layer has a rank."""
    modules = _peft_modules(made.decided, dialect, kind)
    components = compared.before.keymap.components
    names = dict.fromkeys(name.module for one in components for _, name in written(one, WRITINGS[dialect]))
    return peft_file_config(modules, names) if modules else ""


def _peft_modules(ranked: Iterable[Ranked], dialect: WrittenDialect, kind: str) -> list[PeftModule]:
    return [
        PeftModule.of(item.layer.name, item.layer.module, dialect, item.rank, has_magnitude=kind == "dora")
        for item in ranked
    ]


def nothing(compared: Comparison, left_out: Sequence[str]) -> LoraError:
    """Return the error for a LoRA that would be empty, with the reason."""
    before, packed = compared.before.name, compared.packed()
    if packed:
        return LoraError(
            f"{compared.name}: nothing to extract: {counted(packed, 'weight')} can't be compared with {before}, as "
            f"they are packed in a way that can't be read here: {some_names(packed)}; load the models as fp16 or bf16."
        )
    if left_out:
        return LoraError(
            f"{compared.name}: nothing to extract: only biases and norms differ from {before}, and this dialect has "
            "matrices only; choose kohya or comfy."
        )
    if isinstance(compared, Stacked):
        return LoraError(f"{compared.name}: nothing to extract: the stack changes nothing in {before}.")
    if isinstance(compared, ModelPair) and is_same_model(compared):
        return LoraError(
            f"{compared.name}: nothing to extract: it is the same as {before}, byte for byte; choose the tuned "
            "checkpoint, and as the base the one that it was made from."
        )
    return LoraError(f"{compared.name}: nothing to extract: every shared tensor equals the one in {before}.")


def _span(ranks: Sequence[int]) -> str:
    if not ranks:
        return ""
    low, high = min(ranks), max(ranks)
    return f", rank {low}" if low == high else f", ranks {low} to {high}"


def _about_ranks(work: Extraction) -> list[str]:
    rule, notes = work.made.rule, list[str]()
    if rule.by == "rank" and work.full:
        notes.append(f"{work.full} layers kept whole, as they have less than rank {rule.max_rank}")
    dropped = [layer["name"] for layer in work.made.report.layers if layer["rank"] == 0]
    if dropped:
        notes.append(f"{counted(dropped, 'layer')} without a rank in this budget: {some_names(dropped)}")
    if work.made.clamp < 1:
        notes.append(f"factors cut at their quantile {work.made.clamp:g}: the energies are those before the cut")
    return notes


def _warnings(work: Extraction) -> list[str]:
    warnings: list[str] = []
    compared, left_out = work.compared, work.left_out
    if isinstance(compared, ModelPair):
        warnings += work.noise.warnings(compared.before, compared.after)
    if isinstance(compared, Stacked) and compared.reshaped:
        names = some_names(compared.reshaped)
        warnings.append(f"{counted(compared.reshaped, 'tensor')} that the stack gives another shape left out: {names}.")
    if left_out:
        warnings.append(
            f"{counted(left_out, 'bias or norm')} left out, as {work.dialect} reads matrices only: "
            f"{some_names(left_out)}."
        )
    if work.made.clamped:
        warnings.append(
            f"{work.made.clamped} values were beyond the range of the written number format and were clamped."
        )
    return warnings
