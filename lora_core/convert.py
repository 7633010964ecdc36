"""Convert a LoRA: the same change under the names of another dialect, as the same kinds or as plain LoRA."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Literal

from .checkpoint import Checkpoint
from .converter import Converter, Made, kept_tensors, leftovers
from .convertmodel import Model, choose_model
from .convertplan import Plan, plan
from .errors import NothingMatchedError, OptionError, UnmatchedError
from .lazytorch import torch
from .lorafile import LoraFile
from .lorawriter import (
    PeftModule,
    check_config,
    component_of,
    kept_metadata,
    peft_file_config,
    peft_metadata,
    rank_metadata,
    write_config,
    write_lora,
)
from .matching import OnUnmatched, describe_lora
from .options import CONVERT
from .outputs import check_target
from .report import Report, Stopwatch, counted, described_file, some_names
from .rounding import DTYPE_NAMES, round_to
from .tensorfile import OnStep
from .tensorheader import DTYPES
from .writing import WRITINGS, Writing, WrittenDialect, written

PEFT_FILE = "adapter_model.safetensors"  # beside it belongs a configuration

# Kinds that ComfyUI's own loader does not read
_NOT_IN_COMFYUI = frozenset(("input_oft", "input_boft", "ia3", "peft_ia3"))


def convert(
    file: str | os.PathLike[str],
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
    report, writing, target = Report("convert"), WRITINGS[dialect], Path(out)
    watch = Stopwatch(report)
    with ExitStack() as files:
        lora = files.enter_context(LoraFile(file))
        checkpoint = files.enter_context(Checkpoint(base)) if base else None
        inputs = [lora.path, *(checkpoint.paths if checkpoint else ())]
        has_config = dialect == "peft" and target.name == PEFT_FILE
        check_target(target, overwrite, inputs)
        if has_config:
            check_config(target, overwrite)
        model = choose_model(lora, arch, checkpoint, writing)
        todo = plan(lora, model.keymap, writing, model.diffusers)
        _fill(report, lora, model, todo, on_unmatched)
        _refuse_several_models(lora, todo, writing)
        made = _made(Converter(lora, checkpoint, kind == "lora", rank), todo, writing, on_step)
        tensors = _tensors(lora, made, todo, writing, dtype, report)
        described = _peft_modules(made, writing)
        _warn(report, made, writing, set(tensors))
        metadata = _metadata(lora, model, made, described, writing)
        lora.file.check_unchanged()
        write_lora(target, tensors, metadata, inputs, report, overwrite=overwrite)
        if has_config and described:
            write_config(target, peft_file_config(described, _modules(model, writing)), report)
    return watch.stop()


def _fill(report: Report, lora: LoraFile, model: Model, todo: Plan, on_unmatched: OnUnmatched) -> None:
    """Describe the file in the report; raises where nothing, or not all that was asked for, has a place."""
    described = describe_lora(lora)
    described.unmatched, described.mismatched = todo.unmatched, todo.mismatched
    missing = {*todo.unmatched, *(str(item["name"]) for item in todo.mismatched), *lora.unsupported}
    described.modules_matched = described.modules_total - len(missing)
    report.inputs, report.loras = [described_file(lora.path)], [described]
    report.arch, report.title, report.warnings = model.id, model.title, list(lora.warnings)
    if not todo.jobs:
        raise NothingMatchedError(
            f"{lora.name}: nothing to convert: none of its {described.modules_total} modules has a place in "
            f"{model.title}, e.g. {lora.modules[0]!r}; name the model with --arch, or give it with --base."
        )
    if missing and on_unmatched == "error":
        raise UnmatchedError(
            f"{lora.name}: {counted(sorted(missing), 'module')} without a place in {model.title}: "
            f"{some_names(sorted(missing))}."
        )
    if missing and on_unmatched == "warn":
        report.warnings.append(
            f"{lora.name}: {counted(sorted(missing), 'module')} without a place in {model.title} keep their names: "
            f"{some_names(sorted(missing))}."
        )


def _refuse_several_models(lora: LoraFile, todo: Plan, writing: Writing) -> None:
    titles = {job.slot.component.arch.title for job in todo.jobs}
    if writing.id == "peft" and len(titles) > 1:
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


def _tensors(
    lora: LoraFile, made: Sequence[Made], todo: Plan, writing: Writing, dtype: str, report: Report
) -> dict[str, torch.Tensor]:
    """Return all tensors to write, and fill in the report's layers."""
    tensors = dict(kept_tensors(lora, list(leftovers(lora, list(made))), todo.kept))
    before = {info.dtype for name, info in lora.file.items() if not name.endswith(".alpha")}
    for item in made:
        tensors.update(item.tensors(writing))
        if not item.job.is_rename or item.recast:
            report.layers.append(_layer(item))
    if dtype == "keep":
        wider = [name for name, t in tensors.items() if t.dtype == torch.float32 and not name.endswith(".alpha")]
        if wider and "F32" not in before:
            report.notes.append(f"{counted(wider, 'tensor')} in fp32, as the file's own number format would round them")
        return tensors
    wanted = getattr(torch, DTYPES[DTYPE_NAMES[dtype]][1])
    clamped = 0
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not name.endswith(".alpha"):
            tensors[name], outside = round_to(tensor.float(), wanted)
            clamped += outside
    if clamped:
        report.warnings.append(f"{clamped} values were beyond the range of the written number format and were clamped.")
    return tensors


def _layer(item: Made) -> dict[str, object]:
    sources = list(dict.fromkeys(piece.spec.module for piece in item.job.pieces))
    slot = item.job.slot
    return {
        "name": slot.name, "param": slot.param, "from": sources, "kind": item.parts.kind, "was": item.was,
        "rank": item.parts.rank, "error": item.error,
    }  # fmt: skip


def _peft_modules(made: Sequence[Made], writing: Writing) -> list[PeftModule]:
    """Return what PEFT's configuration tells of, nothing if a file has kinds that it does not describe."""
    biases = {item.job.slot.name for item in made if item.parts.kind == "bias"}
    loras = [item for item in made if item.parts.kind == "lora" and item.job.slot.param == "weight"]
    if any(item.parts.kind == "lokr" for item in made):
        return []  # diffusers finds the configuration of LoKr in the tensors
    return [
        PeftModule(
            component_of(item.job.slot.name, item.job.slot.module, writing.id),
            item.job.slot.module,
            item.parts.rank or 1,
            item.parts.magnitude is not None and not item.parts.magnitude_of_input,
            item.job.slot.name in biases,
        )
        for item in loras
    ]


def _warn(report: Report, made: Sequence[Made], writing: Writing, names: set[str]) -> None:
    """Say what the dialect's own loaders won't read, what became LoRA unasked, and how exactly."""
    unread = Counter(reason for item in made if (reason := _unread(item, made, writing)))
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


def _unread(item: Made, made: Sequence[Made], writing: Writing) -> str | None:
    """Return what of an adapter the loaders of its dialect leave out, None if they read it."""
    kind = item.parts.kind
    if writing.has_alpha:
        return item.was if kind in _NOT_IN_COMFYUI else None
    if kind == "lora":
        return "DoRA of the input" if item.parts.magnitude_of_input else None
    if kind == "bias":
        loras = sum(other.parts.kind == "lora" for other in made)
        return None if sum(other.parts.kind == "bias" for other in made) == loras else "bias of some layers only"
    if kind == "lokr" and "t2" not in item.parts.fields and all(other.parts.kind == "lokr" for other in made):
        return None if writing.id == "diffusers" else item.was
    return f"{item.was} of a vector" if kind in ("full", "norm", "set") and item.recast else item.was


def _metadata(
    lora: LoraFile, model: Model, made: Sequence[Made], modules: Sequence[PeftModule], writing: Writing
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


def _modules(model: Model, writing: Writing) -> Mapping[str, None]:
    """Return the names of a model's modules, dialect prefix apart."""
    names = (
        name.module
        for component in model.keymap.components
        for _, name in written(component, writing, model.diffusers.get(component.arch.id, frozenset()))
    )
    return dict.fromkeys(names)
