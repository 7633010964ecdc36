"""Merge a stack of LoRAs into a checkpoint, streaming from disk to disk."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from .apply import apply_stack
from .checkpoint import Checkpoint
from .errors import OptionError, UnknownArchError
from .lazytorch import torch
from .lorafile import LoraFile
from .matching import Match, OnUnmatched, StackedLora, match_stack
from .options import MERGE, MERGE_DTYPE, Semantics
from .report import Report, Stopwatch, described_file
from .rounding import DTYPE_NAMES, round_to
from .stack import check_strength
from .tensorfile import OnStep
from .tensorheader import DTYPES, TensorInfo
from .tensorwriter import PlannedTensor, TensorWriter

Dtype = Literal["keep", "fp32", "fp16", "bf16", "fp8_e4m3fn"]

# A LoRA as callers name it: a path, or a path with one or two strengths
LoraItem = str | os.PathLike[str] | Sequence[Any]

# Metadata that describes the input's bytes and would be false for the output
_STALE_METADATA = ("modelspec.hash_sha256", "sshs_model_hash", "sshs_legacy_hash")
MERGED_FROM = "lora_core.merged_from"


def merge(
    base: str | os.PathLike[str],
    loras: Iterable[LoraItem],
    out: str | os.PathLike[str],
    *,
    dtype: Dtype = "keep",
    semantics: Semantics = "paper",
    on_unmatched: OnUnmatched = "warn",
    verify: bool = False,
    overwrite: bool = False,
    on_step: OnStep | None = None,
) -> Report:
    """Write `base` with `loras` merged in to `out`: W' = W + Σ strength · delta, summed in fp32 and rounded once.

    Each of `loras` is a path, (path, strength) or (path, strength_model, strength_clip). Tensors that no LoRA touches
    are copied byte for byte. `on_step(done, total)` counts bytes written and may raise to cancel. Memory is bounded
    by a few copies of the largest touched tensor, whatever the size of the checkpoint.

    Raises a LoraError that says what is wrong; then, as on any other exception, no file is left.
    """
    MERGE_DTYPE.check(dtype)
    MERGE.option("semantics").check(semantics)
    MERGE.option("on_unmatched").check(on_unmatched)
    report = Report("merge")
    watch = Stopwatch(report)
    with ExitStack() as files:
        checkpoint = files.enter_context(Checkpoint(base))
        checkpoint.refuse_quantised()
        stack = open_stack(loras, semantics, files)
        if not stack:
            raise OptionError("merge: no LoRA given; name at least one.")
        match = match_stack(stack, checkpoint.keymap, checkpoint.found, on_unmatched)
        _refuse_whole_numbers(checkpoint, match)
        _fill(report, checkpoint, stack, match)
        order = checkpoint.file.in_file_order()
        plan = [PlannedTensor(info.name, _output_dtype(info, dtype), info.shape) for info in order]
        sources = [checkpoint.path, *(item.lora.path for item in stack)]
        metadata = _metadata(checkpoint.file.metadata, stack, semantics)
        with TensorWriter(out, plan, metadata, overwrite=overwrite, inputs=sources) as writer:
            _write(writer, checkpoint, plan, match, semantics, report, on_step)
            for file in (checkpoint.file, *(item.lora.file for item in stack)):
                file.check_unchanged()
            writer.commit(verify=verify)
        report.outputs.append(described_file(Path(out)))
    return watch.stop()


def open_stack(loras: Iterable[LoraItem], semantics: Semantics, files: ExitStack) -> list[StackedLora]:
    """Open the files of a stack; `files` closes them."""
    stack: list[StackedLora] = []
    for item in loras:
        path, strength_model, strength_clip = _item(item)
        stack.append(StackedLora(files.enter_context(LoraFile(path, semantics)), strength_model, strength_clip))
    return stack


def _item(item: LoraItem) -> tuple[str, float, float]:
    if isinstance(item, (str, os.PathLike)):
        return os.fspath(item), 1.0, 1.0
    if not 1 <= len(item) <= 3:
        raise OptionError(f"merge: expected (path, strength_model, strength_clip), found {item!r}.")
    path = os.fspath(item[0])
    strength_model = check_strength(item[1], path) if len(item) > 1 else 1.0
    clip = item[2] if len(item) > 2 else None
    return path, strength_model, strength_model if clip is None else check_strength(clip, path)


def _refuse_whole_numbers(checkpoint: Checkpoint, match: Match) -> None:
    for key in match.by_key:
        if not checkpoint.file[key].is_float:
            raise UnknownArchError(
                f"{checkpoint.name}: {key!r} holds whole numbers ({checkpoint.file[key].dtype}), which this version "
                "can't change; use the fp16, bf16 or plain fp8 version of the model."
            )


def _output_dtype(info: TensorInfo, dtype: Dtype) -> str:
    if dtype == "keep" or not info.is_float or info.nbytes == 0:
        return info.dtype
    if dtype == "fp8_e4m3fn" and len(info.shape) < 2:  # biases and norms are small, and 3 bits would ruin them
        return info.dtype
    return DTYPE_NAMES[dtype]


def _write(
    writer: TensorWriter,
    checkpoint: Checkpoint,
    plan: Sequence[PlannedTensor],
    match: Match,
    semantics: Semantics,
    report: Report,
    on_step: OnStep | None,
) -> None:
    total, done, clamped = sum(tensor.nbytes for tensor in plan), 0, 0

    def count(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        if on_step:
            on_step(done, total)

    count(0)
    for planned in plan:
        placed = [item for item in match.by_key.get(planned.name, ()) if item.strength]
        if not placed and planned.dtype == checkpoint.file[planned.name].dtype:
            writer.copy(planned.name, checkpoint.file, count)
            continue
        stack = [item.read() for item in placed]
        merged = apply_stack(checkpoint.file.tensor(planned.name), stack, semantics)
        rounded, outside = round_to(merged, getattr(torch, DTYPES[planned.dtype][1]))
        writer.put(planned.name, rounded)
        clamped += outside
        count(planned.nbytes)
    if clamped:
        report.warnings.append(f"{clamped} values were beyond the range of the written number format and were clamped.")


def _metadata(base: Mapping[str, str], stack: Sequence[StackedLora], semantics: Semantics) -> dict[str, str]:
    kept = {key: value for key, value in base.items() if key not in _STALE_METADATA}
    merged = [
        {"name": item.lora.name, "strength_model": item.strength_model, "strength_clip": item.strength_clip}
        for item in stack
    ]
    return {**kept, MERGED_FROM: json.dumps({"loras": merged, "semantics": semantics})}


def _fill(report: Report, checkpoint: Checkpoint, stack: Sequence[StackedLora], match: Match) -> None:
    report.inputs = [described_file(path) for path in (checkpoint.path, *(item.lora.path for item in stack))]
    report.arch, report.title = checkpoint.arch, checkpoint.title
    report.loras, report.warnings = match.reports, list(match.warnings)
