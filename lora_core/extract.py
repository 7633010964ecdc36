"""Extract a LoRA: what changed between a base checkpoint and a tuned one, at a rank or an energy."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .blocks import block_in as block_in
from .blocks import block_of as block_of
from .checkpoint import Checkpoint
from .component import Component, WrittenName
from .dialects import BASE
from .errors import LoraError, OptionError
from .files.outputs import check_target
from .files.tensorfile import OnStep
from .files.tensorheader import DTYPES, element_count
from .lazytorch import torch
from .linalg import low_rank
from .lorawriter import PeftModule, component_of, peft_metadata, rank_metadata, write_lora
from .options import EXTRACT
from .outlines import diffusers_names
from .report import Report, Stopwatch, counted, some_names
from .rounding import DTYPE_NAMES, round_to
from .writing import WRITINGS, Writing, WrittenDialect, suffix, written


@dataclass(frozen=True, slots=True)
class _Limits:
    rank: int
    energy: float
    max_rank: int
    conv_rank: int

    def of(self, is_conv: bool) -> tuple[int, float]:
        """Return (highest rank, energy) for a layer."""
        fixed = self.conv_rank if is_conv and self.conv_rank else self.rank
        limit = self.conv_rank if is_conv and self.conv_rank else self.max_rank
        return (limit, self.energy) if self.energy else (fixed, 0.0)


@dataclass(frozen=True, slots=True)
class _Pair:
    """Both checkpoints, and for a key of the base the key of the same parameter in the tuned file."""

    before: Checkpoint
    after: Checkpoint
    partners: Mapping[str, str]

    def is_comparable(self, key: str) -> bool:
        info = self.before.info(key)
        same = self.after.shapes.get(self.partners.get(key, "")) == info.shape
        return same and info.is_float and info.nbytes > 0

    def difference(self, key: str) -> torch.Tensor:
        """Return tuned − base in fp32."""
        return self.after.tensor(self.partners[key]).float() - self.before.tensor(key).float()


def extract(
    base: str | os.PathLike[str],
    tuned: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    rank: int = 32,
    energy: float = 0.0,
    max_rank: int = 128,
    conv_rank: int = 0,
    dialect: WrittenDialect = "kohya",
    dtype: Literal["fp16", "bf16", "fp32"] = "fp16",
    overwrite: bool = False,
    on_step: OnStep | None = None,
) -> Report:
    """Write the difference `tuned` − `base` as a LoRA to `out`.

    Matrices and convolutions become LoRA and LoCon at `rank`, or, if `energy` is above 0, at the smallest rank up to
    `max_rank` that keeps that share of the layer's squared change; `conv_rank` above 0 is the limit for kernels above
    1x1. Biases, norms and other vectors are stored whole, or left out with a warning where the dialect has no way to.
    alpha = rank, √S on both factors. The checkpoints are read tensor by tensor; memory holds the LoRA and one layer.

    Raises a LoraError that says what is wrong; then no file is left.
    """
    numbers = {"rank": rank, "energy": energy, "max_rank": max_rank, "conv_rank": conv_rank}
    for name, value in {**numbers, "dialect": dialect, "dtype": dtype}.items():
        EXTRACT.option(name).check(value)
    report = Report("extract")
    watch = Stopwatch(report)
    limits = _Limits(rank, energy, max_rank, conv_rank)
    with Checkpoint(base) as before, Checkpoint(tuned) as after:
        inputs = (*before.paths, *after.paths)
        check_target(Path(out), overwrite, inputs)  # before minutes of work, not after
        pair = _check_pair(before, after, report)
        tensors = _extracted(pair, limits, dialect, getattr(torch, DTYPES[DTYPE_NAMES[dtype]][1]), report, on_step)
        if not tensors:
            raise LoraError(f"{after.name}: nothing to extract: every shared tensor equals the one in {before.name}.")
        before.check_unchanged()
        after.check_unchanged()
        write_lora(Path(out), tensors, _metadata(before, report, dialect), inputs, report, overwrite=overwrite)
    return watch.stop()


def _check_pair(before: Checkpoint, after: Checkpoint, report: Report) -> _Pair:
    """Fill in the report and return the pair, or raise OptionError if the files can't be compared."""
    if {item.arch.id for item in before.found}.isdisjoint(item.arch.id for item in after.found):
        raise OptionError(
            f"{after.name}: holds {after.title}, but the base {before.name} holds {before.title}; "
            "both must be of the same model."
        )
    report.inputs = [before.described(), after.described()]
    report.arch, report.title = before.arch, before.title
    report.warnings += [*before.warnings, *after.warnings, *_noise(before, after)]
    partners = _partners(before, after)
    if not partners:
        raise OptionError(
            f"{after.name}: has no tensor name in common with {before.name}, e.g. {next(iter(after.shapes))!r} and "
            f"{next(iter(before.shapes))!r}; give both in the same layout."
        )
    changed = [key for key, other in partners.items() if before.shapes[key] != after.shapes[other]]
    missing = [key for key in before.shapes if key not in partners and key not in after.shapes]
    known = set(partners.values())
    added = [key for key in after.shapes if key not in known and key not in before.shapes]
    for names, what in (
        (changed, "of another shape left out"),
        (missing, "of the base only left out"),
        (added, "of the tuned file only left out"),
    ):
        if names:
            report.warnings.append(f"{counted(names, 'tensor')} {what}: {some_names(names)}.")
    return _Pair(before, after, partners)


def _noise(before: Checkpoint, after: Checkpoint) -> Iterator[str]:
    for one, other in ((before, after), (after, before)):
        if one.codings != other.codings:
            for coding, count in sorted((one.codings - other.codings).items()):
                yield (
                    f"{one.name}: {count} weights are stored as {coding} and not so in {other.name}: "
                    "the rounding of that format is part of the difference, and of the LoRA."
                )


def _partners(before: Checkpoint, after: Checkpoint) -> dict[str, str]:
    """Return {key in the base: key of the same parameter in the tuned file}, whatever stands before it there."""
    return {
        key: other
        for one in before.keymap.components
        for two in after.keymap.components
        if two.arch is one.arch
        for key, other in one.partners(two).items()
    }


def _extracted(
    pair: _Pair,
    limits: _Limits,
    dialect: WrittenDialect,
    dtype: torch.dtype,
    report: Report,
    on_step: OnStep | None,
) -> dict[str, torch.Tensor]:
    """Return the LoRA's tensors and fill in the report's layers."""
    jobs = list(_jobs(pair, dialect))
    _refuse_several_models({component.arch.title for _, component, _ in jobs}, dialect)
    total = sum(element_count(name.target.shape) for _, _, name in jobs)
    done = unchanged = clamped = 0
    outside = len(pair.before.shapes) - sum(len(one.keys()) for one in pair.before.keymap.components)
    tensors: dict[str, torch.Tensor] = {}
    key, difference = "", torch.empty(0)
    left_out: list[str] = []
    for full, component, name in jobs:
        if on_step:
            on_step(done, total)
        if name.target.key != key:  # the pieces of a fused weight follow one another
            key = name.target.key
            difference = pair.difference(key)
        delta = name.target.take(difference)
        done += element_count(name.target.shape)
        if not bool(torch.isfinite(delta).all()):
            raise LoraError(f"{pair.after.name}: {key}: the difference to {pair.before.name} holds NaN or infinity.")
        if not bool(delta.any()):
            unchanged += 1
            continue
        if not _is_matrix(name) and not WRITINGS[dialect].has_alpha:
            left_out.append(f"{full}.{name.param}")
            continue
        parts, layer = _adapter(delta, limits, name, WRITINGS[dialect])
        for ending, tensor in parts.items():
            tensors[full + ending], beyond = round_to(tensor, dtype)
            clamped += beyond
        if layer["rank"] and WRITINGS[dialect].has_alpha:
            tensors[full + ".alpha"] = torch.tensor(float(layer["rank"]))
        report.layers.append({"name": full, "block": block_in(component, name.module), "module": name.module, **layer})
    if left_out:
        report.warnings.append(
            f"{counted(left_out, 'bias or norm')} left out, as {dialect} reads matrices only: {some_names(left_out)}."
        )
    if clamped:
        report.warnings.append(f"{clamped} values were beyond the range of the written number format and were clamped.")
    report.notes.append(f"{len(report.layers)} changed, {unchanged} unchanged, {outside} outside the known models")
    return tensors


def _jobs(pair: _Pair, dialect: WrittenDialect) -> Iterator[tuple[str, Component, WrittenName]]:
    """Yield every tensor that both files hold, each once, by the name that it gets in the LoRA."""
    for component in pair.before.keymap.components:
        writing = WRITINGS[dialect]
        if writing.flat and component.roles[0] == BASE:
            writing = WRITINGS["comfy"]  # a text encoder that stands alone has no number
        for name, written_name in written(component, writing, diffusers_names(component.found)):
            if _is_matrix(written_name) and pair.is_comparable(written_name.target.key):
                yield name, component, written_name
        for name, written_name in written(component, WRITINGS["comfy"]):  # whatever has no low rank
            if not _is_matrix(written_name) and pair.is_comparable(written_name.target.key):
                yield name, component, written_name


def _is_matrix(name: WrittenName) -> bool:
    """Tell whether a low rank can be found: biases, norms and embeddings of one row are stored whole."""
    shape = name.target.shape
    return name.param == "weight" and len(shape) > 1 and min(shape[0], element_count(shape[1:])) > 1


def _adapter(
    delta: torch.Tensor, limits: _Limits, name: WrittenName, writing: Writing
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return ({suffix: fp32 tensor}, what the report says of the layer)."""
    if not _is_matrix(name):
        ending = ".diff" if name.param == "weight" else ".diff_b"
        norm = float(delta.double().norm())
        return {ending: delta}, {"rank": None, "energy": 1.0, "norm": norm}
    highest, energy = limits.of(is_conv=any(size > 1 for size in delta.shape[2:]))
    found = low_rank(delta.flatten(1), rank=highest, energy=energy)
    kept = found.up.shape[1]
    ones = (1,) * (delta.dim() - 2)
    parts = {
        "down": found.down.reshape(kept, *delta.shape[1:]),
        "up": found.up.reshape(delta.shape[0], kept, *ones),
    }
    parts = {suffix(writing, "lora", field) or "": tensor for field, tensor in parts.items()}
    return parts, {"rank": kept, "energy": found.energy, "norm": found.norm}


def _refuse_several_models(titles: set[str], dialect: WrittenDialect) -> None:
    if dialect == "peft" and len(titles) > 1:
        raise OptionError(
            f"dialect: a PEFT file is for one model, but both checkpoints hold {' and '.join(sorted(titles))}; "
            "choose diffusers."
        )


def _metadata(before: Checkpoint, report: Report, dialect: WrittenDialect) -> dict[str, str]:
    """Return the keys that other tools look for: kohya's minimum set, the model spec, PEFT's configuration."""
    matrices = [layer for layer in report.layers if layer["rank"]]
    ranks = [layer["rank"] for layer in matrices]
    modules = [
        PeftModule(component_of(layer["name"], layer["module"], dialect), layer["module"], layer["rank"], False, False)
        for layer in matrices
    ]
    return {
        **rank_metadata(ranks, ranks if WRITINGS[dialect].has_alpha else None),
        "ss_base_model_version": before.arch,
        "modelspec.architecture": f"{before.arch}/lora",
        **({} if WRITINGS[dialect].has_alpha or not modules else peft_metadata(modules)),
    }
