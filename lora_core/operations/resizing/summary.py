"""What a resize says of itself: in the report, and in the metadata in the words of kohya's script."""

from __future__ import annotations

from collections.abc import Sequence

from ...report import Report
from ...text import counted, some_names
from .layers import Resizing


def tell_resizing(report: Report, resizing: Resizing, has_base: bool) -> None:
    """Say what became of the layers."""
    cut = [layer for layer in report.layers if "unchanged" not in layer]
    if cut:
        total = sum(layer["norm"] ** 2 for layer in cut) or 1.0
        energy = sum(layer["norm"] ** 2 * layer["energy"] for layer in cut) / total
        worst = min(cut, key=lambda layer: layer["energy"])
        before, after = _span([layer["from_rank"] for layer in cut]), _span([layer["rank"] for layer in cut])
        report.notes.append(
            f"{counted(cut, 'layer')}: rank {before} to {after}, {energy:.2%} of the squared change kept, "
            f"least in {worst['name']} ({worst['energy']:.2%})"
        )
        sums, fros, most = ([layer[name] for layer in cut] for name in ("sum_retained", "fro_retained", "max_ratio"))
        report.notes.append(
            f"on average: {sum(sums) / len(cut):.1%} of the sum of the singular values retained, "
            f"{sum(fros) / len(cut):.1%} of their norm; largest ratio of the first to the last {max(most):.1f}"
        )
    whole = len(report.layers) - len(cut)
    if whole:
        report.notes.append(f"{whole} of {len(report.layers)} layers stay as they are: their rank is no higher")
    for modules, why in ((resizing.dropped, "all zero"), (resizing.without, "not worth any rank by the threshold")):
        if modules:
            report.notes.append(f"{counted(modules, 'layer')} left out, {why}: {some_names(modules)}")
    doras = [item for item in resizing.written if item.source.spec.magnitude is not None and item.kind == "lora"]
    if doras and cut:
        how = "cut so that its weights turn the least" if has_base else "cut as LoRA; with the base it is closer"
        report.notes.append(f"{len(doras)} × DoRA: magnitudes kept, so no weight's norm changes; {how}")
    if resizing.clamped:
        report.warnings.append(
            f"{resizing.clamped} values were beyond the range of the written number format and were clamped."
        )


def how(resizing: Resizing) -> str:
    """Return what was done as the metadata tells it, in the words of kohya's script."""
    rule, conv_rank, before = resizing.rule, resizing.conv_rank, _span(resizing.from_ranks or [0])
    conv = f" (conv: {conv_rank})" if conv_rank and conv_rank != rule.max_rank else ""
    if rule.by == "rank":
        return f"dimension is resized from {before} to {rule.max_rank}{conv}"
    number = f": {rule.threshold:g}" if rule.has_threshold else ""
    return f"Dynamic resize with {rule.by}{number} from {before}, at most {rule.max_rank}{conv}"


def compare(report: Report) -> None:
    """Warn of a file that became larger, as plain LoRA."""
    before, after = report.inputs[0]["bytes"], report.outputs[0]["bytes"]
    if after > before:
        report.warnings.append(
            f"{report.outputs[0]['name']} is larger than {report.inputs[0]['name']}: "
            "plain LoRA of this rank takes more numbers than what it was made of."
        )


def _span(ranks: Sequence[int]) -> str:
    low, high = min(ranks), max(ranks)
    return f"{low}" if low == high else f"{low}–{high}"
