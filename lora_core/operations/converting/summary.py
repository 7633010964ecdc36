"""What a conversion's report and metadata say of its results: exactness, what loaders leave out, configurations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ...adapters import KINDS
from ...adapters.parts import Parts
from ...naming.dialects import Writing
from ...reading.lorafile import LoraFile
from ...report import Report
from ...text import counted, some_names
from ...writing.converter import Made
from ...writing.lorafile import kept_metadata, rank_metadata
from ...writing.model import ModelNames
from ...writing.peft import PeftModule, peft_metadata


def layer_of(item: Made) -> dict[str, object]:
    sources = list(dict.fromkeys(piece.spec.module for piece in item.job.pieces))
    slot = item.job.slot
    return {
        "name": slot.name, "param": slot.param, "from": sources, "kind": item.parts.kind, "was": item.was,
        "rank": item.parts.rank, "error": item.error,
    }  # fmt: skip


def peft_modules_of_made(made: Sequence[Made], writing: Writing) -> list[PeftModule]:
    """Return what PEFT's configuration tells of, nothing if a file has kinds that it does not describe."""
    biases = {item.job.slot.name for item in made if item.parts.kind == "bias"}
    loras = [item for item in made if item.parts.kind == "lora" and item.job.slot.param == "weight"]
    readers = [KINDS[item.parts.kind].read_by for item in made]
    if any("diffusers" in by and "peft" not in by for by in readers):
        return []  # diffusers finds the configuration of LoKr in the tensors
    return [
        PeftModule.of(
            item.job.slot.name,
            item.job.slot.module,
            writing.id,
            item.parts.rank or 1,
            has_magnitude=item.parts.magnitude is not None and not item.parts.magnitude_of_input,
            has_bias=item.job.slot.name in biases,
        )
        for item in loras
    ]


def warn(report: Report, made: Sequence[Made], writing: Writing, names: set[str]) -> None:
    """Say what the dialect's own loaders won't read, what became LoRA unasked, and how exactly."""
    parts = [item.parts for item in made]
    unread = Counter(reason for item in made if (reason := _unread(item, parts, writing)))
    reader = "ComfyUI's own loader" if writing.has_alpha else "diffusers and PEFT"
    for what, number in unread.items():
        advice = "" if what.startswith(("norm", "bias")) else "; kind lora makes it plain LoRA"
        report.warnings.append(f"{number} × {what}: not read by {reader}{advice}.")
    if not writing.has_alpha:
        others = sorted(name for name in names if "lora" not in name and ".lokr_" not in name)
        if others and not unread:
            report.warnings.append(
                f"{counted(others, 'tensor')} that diffusers refuses in a LoRA file: {some_names(others)}."
            )
    recast = [item for item in made if item.recast]
    if recast:
        worst = max(recast, key=lambda item: item.error)
        kinds = " and ".join(sorted({item.was for item in recast}))
        report.notes.append(
            f"{len(recast)} × {kinds} became plain LoRA; largest relative error {worst.error:.2g} "
            f"({worst.job.slot.name})"
        )


def _unread(item: Made, file: Sequence[Parts], writing: Writing) -> str | None:
    """Return what of an adapter the loaders of its dialect leave out of a file of these parts, None if they read it."""
    reason = KINDS[item.parts.kind].unread(writing.loader, item.parts, file)
    if reason is None or reason:
        return reason
    return f"{item.was} of a vector" if item.recast and not writing.has_alpha else item.was


def converted_metadata(
    lora: LoraFile, model: ModelNames, made: Sequence[Made], modules: Sequence[PeftModule], writing: Writing
) -> dict[str, str]:
    ranks = [item.parts.rank for item in made if item.parts.rank]
    kept = kept_metadata(lora.metadata)
    fresh = rank_metadata(ranks, _alphas(made) if writing.has_alpha else None)
    if any(item.recast for item in made) and all(item.parts.kind in ("lora", "full", "norm") for item in made):
        kept.pop("ss_network_module", None)
        kept.pop("ss_network_args", None)
    named = {"ss_base_model_version": model.id, "modelspec.architecture": f"{model.id}/lora"} if model.id else {}
    described = {**named, **fresh, **kept}
    if not writing.has_alpha and modules:
        described.update(peft_metadata(modules))
    return {**described, **{name: fresh[name] for name in ("ss_network_dim", "ss_network_alpha") if name in fresh}}


def _alphas(made: Sequence[Made]) -> list[float]:
    alphas = (item.parts.scale * item.parts.rank for item in made if item.parts.rank)
    return list(alphas)
