"""Extract a LoRA: what changed between a base checkpoint and a tuned one, at a rank or an energy."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .arch.base import NameStyle
from .checkpoint import Checkpoint
from .dialects import BASE
from .errors import LoraError, OptionError
from .keymap import Component, WrittenName
from .lazytorch import torch
from .linalg import low_rank
from .options import EXTRACT
from .outputs import check_target
from .report import Report, Stopwatch, counted, described_file, some_names
from .rounding import DTYPE_NAMES, round_to
from .tensorfile import OnStep, byte_view, dtype_name
from .tensorheader import DTYPES, element_count
from .tensorwriter import PlannedTensor, TensorWriter
from .writing import WRITINGS, prefix_of

Dialect = Literal["kohya", "comfy"]


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
    dialect: Dialect = "kohya",
    dtype: Literal["fp16", "bf16", "fp32"] = "fp16",
    overwrite: bool = False,
    on_step: OnStep | None = None,
) -> Report:
    """Write the difference `tuned` − `base` as a LoRA to `out`.

    Matrices and convolutions become LoRA and LoCon at `rank`, or, if `energy` is above 0, at the smallest rank up to
    `max_rank` that keeps that share of the layer's squared change; `conv_rank` above 0 is the limit for kernels above
    1x1. Biases, norms and other vectors are stored whole. alpha = rank, √S on both factors. The checkpoints are read
    tensor by tensor; memory holds the LoRA and one layer.

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
        metadata = _metadata(before, report)
        _write(Path(out), tensors, metadata, inputs, report, overwrite)
    return watch.stop()


def block_of(module: str) -> str:
    """Return the block that a module belongs to: its name up to the first number that something follows."""
    tokens = module.split(".")
    number = next((place for place, token in enumerate(tokens[:-1]) if token.isdecimal()), None)
    return ".".join(tokens[: number + 1]) if number is not None else tokens[0]


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
    dialect: Dialect,
    dtype: torch.dtype,
    report: Report,
    on_step: OnStep | None,
) -> dict[str, torch.Tensor]:
    """Return the LoRA's tensors and fill in the report's layers."""
    jobs = list(_jobs(pair, dialect))
    total = sum(element_count(name.target.shape) for _, name in jobs)
    done = unchanged = clamped = 0
    outside = len(pair.before.shapes) - sum(len(one.keys()) for one in pair.before.keymap.components)
    tensors: dict[str, torch.Tensor] = {}
    key, difference = "", torch.empty(0)
    for component, name in jobs:
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
        parts, layer = _adapter(delta, limits, name)
        prefix = _module_name(component, name, dialect)
        for suffix, tensor in parts.items():
            tensors[prefix + suffix], beyond = round_to(tensor, dtype)
            clamped += beyond
        if layer["rank"]:
            tensors[prefix + ".alpha"] = torch.tensor(float(layer["rank"]))
        report.layers.append({"name": prefix, "block": _block(component, name), **layer})
    if clamped:
        report.warnings.append(f"{clamped} values were beyond the range of the written number format and were clamped.")
    report.notes.append(f"{len(report.layers)} changed, {unchanged} unchanged, {outside} outside the known models")
    return tensors


def _jobs(pair: _Pair, dialect: Dialect) -> Iterator[tuple[Component, WrittenName]]:
    """Yield every tensor that both files hold, each once, by the name that it gets in the LoRA."""
    for component in pair.before.keymap.components:
        trainers = component.arch.kohya_names
        own: NameStyle = trainers if component.arch.role == "text_encoder" else "here"
        names_of: dict[Dialect, NameStyle] = {"kohya": trainers, "comfy": own}
        for style, names in names_of.items():
            for name in component.written_names(names):
                if pair.is_comparable(name.target.key) and style == _style(component, name, dialect):
                    yield component, name


def _style(component: Component, name: WrittenName, dialect: Dialect) -> Dialect:
    """Return whose name to write: kohya's trainers name matrices of some modules; ComfyUI can name everything."""
    named = component.roles[0] != BASE and name.module.startswith(component.arch.kohya_modules)
    return "kohya" if dialect == "kohya" and named and _is_matrix(name) else "comfy"


def _is_matrix(name: WrittenName) -> bool:
    """Tell whether a low rank can be found: biases, norms and embeddings of one row are stored whole."""
    shape = name.target.shape
    return name.param == "weight" and len(shape) > 1 and min(shape[0], element_count(shape[1:])) > 1


def _adapter(delta: torch.Tensor, limits: _Limits, name: WrittenName) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return ({suffix: fp32 tensor}, what the report says of the layer)."""
    if not _is_matrix(name):
        suffix = ".diff" if name.param == "weight" else ".diff_b"
        norm = float(delta.double().norm())
        return {suffix: delta}, {"rank": None, "energy": 1.0, "norm": norm}
    highest, energy = limits.of(is_conv=any(size > 1 for size in delta.shape[2:]))
    found = low_rank(delta.flatten(1), rank=highest, energy=energy)
    kept = found.up.shape[1]
    ones = (1,) * (delta.dim() - 2)
    parts = {
        ".lora_down.weight": found.down.reshape(kept, *delta.shape[1:]),
        ".lora_up.weight": found.up.reshape(delta.shape[0], kept, *ones),
    }
    return parts, {"rank": kept, "energy": found.energy, "norm": found.norm}


def _module_name(component: Component, name: WrittenName, dialect: Dialect) -> str:
    """Return the module's name with its dialect prefix."""
    writing = WRITINGS[_style(component, name, dialect)]
    return prefix_of(component, writing) + (name.module.replace(".", "_") if writing.flat else name.module)


def _block(component: Component, name: WrittenName) -> str:
    block = block_of(name.module)
    return block if component.arch.role == "diffusion" else f"{component.arch.id} {block}"


def _write(
    out: Path,
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str],
    inputs: Iterable[Path],
    report: Report,
    overwrite: bool,
) -> None:
    plan = [PlannedTensor(name, dtype_name(tensor.dtype), tuple(tensor.shape)) for name, tensor in tensors.items()]
    plan.sort(key=lambda tensor: (-DTYPES[tensor.dtype][0], tensor.name))  # aligned, as the reference writer orders
    metadata = {**metadata, "sshs_model_hash": _hash(plan, tensors)}
    with TensorWriter(out, plan, metadata, overwrite=overwrite, inputs=inputs) as writer:
        for tensor in plan:
            writer.put(tensor.name, tensors[tensor.name])
        writer.commit()
    report.outputs.append(described_file(out))


def _hash(plan: list[PlannedTensor], tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in plan:
        digest.update(byte_view(tensors[tensor.name]))
    return digest.hexdigest()


def _metadata(before: Checkpoint, report: Report) -> dict[str, str]:
    """Return the keys that other tools look for: kohya's minimum set and the model spec."""
    ranks = [layer["rank"] for layer in report.layers if layer["rank"]]
    low, high = min(ranks, default=1), max(ranks, default=1)
    rank = str(high) if low == high else "Dynamic"
    return {
        "format": "pt",
        "ss_v2": "False",
        "ss_base_model_version": before.arch,
        "ss_network_module": "networks.lora",
        "ss_network_dim": rank,
        "ss_network_alpha": rank,
        "ss_network_args": "{}",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{before.arch}/lora",
    }
