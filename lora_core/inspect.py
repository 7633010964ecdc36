"""Inspect a LoRA or a checkpoint from its header alone, and a LoRA against the checkpoints that it is for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from .arch.base import Shapes
from .checkpoint import Checkpoint, describe
from .detection import Found
from .errors import FileFormatError, WrongFileKindError
from .keymap import KeyMap
from .lorafile import LoraFile, words_in
from .matching import StackedLora, describe_lora, match_stack
from .report import Report, Stopwatch, described_file


def inspect(file: str | os.PathLike[str], against: Iterable[str | os.PathLike[str]] = ()) -> Report:
    """Return what `file` is; a LoRA is also matched with `against` (a model, text encoders, or a full checkpoint).

    Reads headers and single numbers only. Nothing is an error that a report can say: a LoRA without a single match
    is reported as such.
    """
    report = Report("inspect")
    watch = Stopwatch(report)
    path = Path(file)
    lora = _lora(path)
    if lora is None:
        with Checkpoint(path) as checkpoint:
            _describe_checkpoint(checkpoint, report)
        return watch.stop()
    with lora:
        report.inputs.append(described_file(path))
        words = words_in(lora.metadata)
        if words:
            report.notes.append("trigger words: " + ", ".join(words))
        checkpoints = list(against)
        if checkpoints:
            _match(lora, checkpoints, report)
        else:
            report.loras.append(describe_lora(lora))
        report.warnings += lora.warnings
    return watch.stop()


def _lora(path: Path) -> LoraFile | None:
    """Return the open LoRA, or None if `path` is something else."""
    try:
        return LoraFile(path)
    except WrongFileKindError:
        return None
    except FileFormatError:
        if path.is_dir():  # of a model: what is wrong with it is for Checkpoint to say
            return None
        raise


def _describe_checkpoint(checkpoint: Checkpoint, report: Report) -> None:
    report.inputs.append(checkpoint.described())
    report.warnings += checkpoint.warnings
    report.arch, report.title = checkpoint.arch, checkpoint.title
    held = 0
    for item, component in zip(checkpoint.found, checkpoint.keymap.components, strict=True):
        keys = component.keys()
        held += len(keys)
        report.notes.append(f"{item.title}: {len(keys)} tensors below {item.prefix!r}")
    rest = len(checkpoint.shapes) - held
    if rest > 0:
        report.notes.append(f"{rest} other tensors (VAE, buffers)")
    report.notes += checkpoint.notes()


def _match(lora: LoraFile, against: list[str | os.PathLike[str]], report: Report) -> None:
    files: list[tuple[Shapes, list[Found]]] = []
    for path in against:
        with Checkpoint(path) as checkpoint:
            report.inputs.append(checkpoint.described())
            files.append((checkpoint.shapes, checkpoint.found))
    found = [item for _, items in files for item in items]
    match = match_stack([StackedLora(lora)], KeyMap(*files), found, "ignore")
    report.arch, report.title = describe(found)
    report.loras = match.reports
    for one in match.reports:
        if one.modules_matched == 0 and one.unsupported:
            kinds = " and ".join(one.unsupported)
            report.warnings.append(f"{one.name}: its modules are {kinds}, which this version can't apply.")
        elif one.modules_matched == 0:
            looks = f"; it looks like {' or '.join(one.arches)}" if one.arches else ""
            report.warnings.append(f"{one.name}: nothing of it fits {report.title}{looks}.")
