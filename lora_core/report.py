"""What an operation did, and what it could not do and why: as data and as readable text."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from .reporttables import lines_of, verdict_lines
from .text import NAMES_SHOWN, counted, fitted, message_line, size_text, some_names, visible

State = Literal["full", "partial", "none", "unknown"]


@dataclass(slots=True)
class LoraReport:
    """What became of one LoRA file."""

    name: str
    dialect: str
    kinds: list[str]
    rank: tuple[int, int] | None  # lowest and highest
    scale: dict[str, Any]  # {"min", "max", "source", "alpha"}
    modules_total: int
    modules_matched: int = 0
    arches: list[str] = field(default_factory=list)  # what the file itself looks like
    strength_model: float | None = None
    strength_clip: float | None = None
    pair: str | None = None  # which of two models got it: "high" or "low"
    block_strengths: dict[str, float] = field(default_factory=dict)  # what strengths are multiplied with, where not 1
    unused_blocks: list[str] = field(default_factory=list)  # blocks with a strength that the file does not change
    unmatched: list[str] = field(default_factory=list)
    mismatched: list[dict[str, Any]] = field(default_factory=list)  # name, expected shape, found shape
    elsewhere: list[str] = field(default_factory=list)  # adapters for a model file that was not given
    without_effect: list[str] = field(default_factory=list)  # modules that have a place, and whose change is zero
    repeated: list[str] = field(default_factory=list)  # modules with the change that another name of the weight has
    read_as: dict[str, list[str]] = field(default_factory=dict)  # how names had to be changed to fit -> modules
    host_names: list[str] = field(default_factory=list)  # modules placed by names that only ComfyUI's own maps know
    not_adapters: dict[str, str] = field(default_factory=dict)  # name -> what it is
    unsupported: dict[str, list[str]] = field(default_factory=dict)  # kind -> modules
    relative_size: float | None = None  # |delta| / |W| over the matched weights at strength 1, where computed
    blocks: list[dict[str, Any]] = field(default_factory=list)  # block, matched and total modules, norm, relative_size


@dataclass(slots=True)
class Report:
    """The result of an operation. `to_dict()` is what `--json` prints; `text()` is for people."""

    operation: str
    inputs: list[dict[str, Any]] = field(default_factory=list)
    arch: str | None = None
    title: str | None = None
    loras: list[LoraReport] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    layers: list[dict[str, Any]] = field(default_factory=list)  # extract: name, block, rank, energy, norm
    blocks: list[dict[str, Any]] = field(default_factory=list)  # inspect: what each LoRA changes of a block, and all
    pairs: list[dict[str, Any]] = field(default_factory=list)  # inspect: how two LoRAs agree, in all and by block
    interference: float | None = None  # |sum w·dW|² / sum |w·dW|² of a stack: above 1 they reinforce
    notes: list[str] = field(default_factory=list)
    precision: list[dict[str, Any]] = field(default_factory=list)  # merge: dtype, layers, error, strength
    verified: dict[str, Any] | None = None  # verify: name, tensors, equal, differences
    predicted_bytes: int | None = None  # of the file, known before it is written
    seconds: float = 0.0
    peak_rss_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        data = asdict(self)
        for lora, described in zip(self.loras, data["loras"], strict=True):
            described["summary"], described["state"] = summary_of(lora, self.title), state_of(lora, self.title)
        data["notes"], data["warnings"] = list(map(fitted, self.notes)), list(map(fitted, self.warnings))
        return as_json_has_it(data, "", {})

    def text(self) -> str:
        lines = [line for lora in self.loras for line in _lora_lines(lora, self.title)]
        lines += [self.title] if self.title and not self.loras else []
        lines += self.notes
        lines += lines_of([lora.name for lora in self.loras], self.blocks, self.pairs, self.interference)
        lines += verdict_lines(self.verified)
        if self.predicted_bytes is not None and not self.outputs:
            lines.append(f"the file would have {size_text(self.predicted_bytes)}")
        lines += [f"wrote {output['name']} ({size_text(output['bytes'])})" for output in self.outputs]
        lines += [f"warning: {warning}" for warning in self.warnings]
        lines += [f"{self.seconds:.1f} s, peak memory {size_text(self.peak_rss_bytes)}"] if self.outputs else []
        return "\n".join(map(message_line, lines))  # names in them may come from strangers

    def leave_out_what_is_no_number(self) -> None:
        """Put None for NaN and infinity among what was measured, and say of which weights they are.

        No page reads a report with such a number: JSON has none.
        """
        found: dict[str, list[str]] = {}
        for lora in self.loras:
            lora.blocks = as_json_has_it(lora.blocks, lora.name, found)
            lora.relative_size = as_json_has_it(lora.relative_size, f"{lora.name}: relative_size", found)
        for name in ("layers", "blocks", "pairs", "precision", "interference"):
            setattr(self, name, as_json_has_it(getattr(self, name), name, found))
        for where, what in found.items():
            self.warnings.append(f"{where}: NaN or infinity, so {', '.join(dict.fromkeys(what))} can't be told.")


def as_json_has_it(value: Any, where: str, found: dict[str, list[str]]) -> Any:
    """Return a value with None for NaN and infinity; `found` gets what they were, by what they belong to."""
    if isinstance(value, dict):
        where = str(value.get("name") or value.get("block") or where)
        return {key: as_json_has_it(item, f"{where}: {key}", found) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json_has_it(item, where, found) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        owner, _, what = where.rpartition(": ")
        found.setdefault(owner or what, []).append(what)
        return None
    return value


class Stopwatch:
    """Fills in a report's seconds and peak memory when the operation ends."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._start = time.monotonic()

    def stop(self) -> Report:
        self._report.seconds = round(time.monotonic() - self._start, 3)
        self._report.peak_rss_bytes = peak_rss_bytes()
        self._report.leave_out_what_is_no_number()
        return self._report


def peak_rss_bytes() -> int:
    """Return the most memory that this process ever held, 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0
    import resource  # noqa: PLC0415  (does not exist on Windows)

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def described_file(path: Path, **more: Any) -> dict[str, Any]:
    """Return a file as reports name it: never with its folder."""
    return {"name": path.name, "bytes": path.stat().st_size, **more}


def state_of(lora: LoraReport, title: str | None) -> State:
    """Return whether a LoRA is used in full, in part or not at all on the model `title`; "unknown" without a model."""
    if not title:
        return "unknown"
    if lora.modules_matched == 0:
        return "none"
    return "full" if lora.modules_matched == lora.modules_total else "partial"


def summary_of(lora: LoraReport, title: str | None) -> str:
    """Return one LoRA in one line: "722/722 · SDXL · LoRA r32 · scale 0.5 (alpha 16, tensor)"."""
    what = [*_fit_texts(lora, title), _scale_text(lora.scale)]
    return visible(" · ".join([*what, *_size_texts(lora)]))


def _fit_texts(lora: LoraReport, title: str | None) -> list[str]:
    matched = f"{lora.modules_matched}/{lora.modules_total}" if title else f"{lora.modules_total} modules"
    kinds = "/".join(lora.kinds)
    if lora.rank:
        low, high = lora.rank
        kinds += f" r{low}" if low == high else f" r{low}–{high}"
    return [matched, title or " or ".join(lora.arches) or "unknown architecture", kinds]


def _size_texts(lora: LoraReport) -> list[str]:
    return [] if lora.relative_size is None else [f"\N{GREEK CAPITAL LETTER DELTA} {100 * lora.relative_size:.2g} %"]


def _lora_lines(lora: LoraReport, title: str | None) -> list[str]:
    what = [*_fit_texts(lora, title), f"{lora.dialect} names"]
    what += [_scale_text(lora.scale), *_size_texts(lora)]
    if lora.strength_model is not None:  # after the size, which is the file's own
        clip = "" if lora.strength_clip == lora.strength_model else f", clip {lora.strength_clip:g}"
        what.append(f"strength {lora.strength_model:g}{clip}")
    which = f" ({lora.pair}-noise model)" if lora.pair else ""
    lines = [f"{lora.name}{which}: " + " · ".join(what)]
    if lora.block_strengths:
        lines.append("  blocks: " + ", ".join(f"{name} at {value:g}" for name, value in lora.block_strengths.items()))
    for kind, modules in lora.unsupported.items():
        lines.append(f"  {counted(modules, kind + ' module')} not applied by this version: {some_names(modules)}")
    if lora.unmatched:
        lines.append(f"  {counted(lora.unmatched, 'module')} without a place here: {some_names(lora.unmatched)}")
    for item in lora.mismatched[:NAMES_SHOWN]:
        lines.append(f"  {item['name']}: expected shape {item['expected']}, found {item['found']}")
    if lora.without_effect:
        names = some_names(lora.without_effect)
        lines.append(f"  {counted(lora.without_effect, 'module')} without effect, all zero: {names}")
    if lora.repeated:
        names = some_names(lora.repeated)
        lines.append(f"  {counted(lora.repeated, 'module')} like others under another name, applied once: {names}")
    for how, modules in lora.read_as.items():
        lines.append(f"  {counted(modules, 'module')} placed by its name {how}: {some_names(modules)}")
    if lora.host_names:
        lines.append(f"  {counted(lora.host_names, 'module')} placed by ComfyUI's names: {some_names(lora.host_names)}")
    if lora.elsewhere:
        lines.append(f"  {counted(lora.elsewhere, 'module')} of a model not given: {some_names(lora.elsewhere)}")
    for what in dict.fromkeys(lora.not_adapters.values()):
        names = [name for name, other in lora.not_adapters.items() if other == what]
        lines.append(f"  {counted(names, 'tensor')} of no adapter, {what}: {some_names(names)}")
    return lines


def _scale_text(scale: dict[str, Any]) -> str:
    low, high = scale["min"], scale["max"]
    text = f"scale {low:g}" if low == high else f"scale {low:g}–{high:g}"
    alpha = scale.get("alpha")
    if scale["source"] == "none":
        return text + " (no alpha)"
    return text + (
        f" (alpha {alpha:g}, {scale['source']})" if alpha is not None else f" (alpha from {scale['source']})"
    )
