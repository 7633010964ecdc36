"""Inspect a LoRA or a checkpoint from its header alone, and a LoRA against the checkpoints that it is for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

from ...errors import FileFormatError, NotALoraError, OptionError, WrongFileKindError
from ...library.words import words_of
from ...naming.blocks import in_order
from ...naming.detection import describe
from ...naming.keymap import KeyMap
from ...parallel.asking import cancellable
from ...parallel.progress import LayerSteps, OnStep
from ...reading.checkpoint import Checkpoint
from ...reading.loraconfig import CONFIG_NAME
from ...reading.lorafile import LoraFile
from ...report import Report, Stopwatch
from ...shortage import tells_shortages
from ...stack.matching import describe_lora, match_stack
from ...stack.opened import LoraItem, StackedLora, about_blocks, open_stack
from ...stack.pairs import NO_PAIR, unused
from .agreement import Agreement, agreements, pairs_of, places_of, total_of, twins
from .measures import analysed, summed, unmeasured
from .reference import Reference, guessed, shared_arches

MOST_COMPARED = 32  # LoRAs: each pair of them is measured in every tensor
_TWINS = 10  # warnings


@tells_shortages
def inspect(
    file: LoraItem,
    against: Iterable[str | os.PathLike[str]] = (),
    *,
    stack: Iterable[LoraItem] = (),
    spectra: bool = False,
    on_step: OnStep | None = None,
) -> Report:
    """Return what `file` is; a LoRA is also matched with `against` (a model, text encoders, or a full checkpoint).

    Reads headers and single numbers only, unless asked for more. With `spectra` every adapter is read and measured,
    and compared with the weights of `against`: `layers` and `blocks` of the report. `stack` names more LoRAs, each as
    a path or with strengths; all are measured, and `pairs` and `blocks` tell where the first 32 reinforce or cancel
    each other.
    `on_step(done, total)` counts layers and may raise to cancel.

    Nothing is an error that a report can say: a LoRA without a single match is reported as such, and so are layers of
    zeros or NaN. LoRAs of different architectures in a stack are an error, an OptionError.
    """
    report = Report("inspect")
    watch = Stopwatch(report)
    path, more = _path(file), list(stack)
    with cancellable(on_step) as step, ExitStack() as files:
        first = _opened(file, files)
        if first is None and more:
            raise OptionError(f"{path.name}: is a checkpoint; a stack is compared with LoRAs, so inspect one of them.")
        if first is None:
            _describe_checkpoint(files.enter_context(Checkpoint(path)), report)
            return watch.stop()
        loras = [first, *open_stack(more, "paper", files)]
        checkpoints = [files.enter_context(Checkpoint(one)) for one in against]
        _describe_loras(loras, checkpoints, report)
        if spectra or more:
            _measure(loras, checkpoints, report, step)
        report.warnings += unused([file, *more], NO_PAIR)
        report.warnings += [warning for item in loras for warning in item.lora.warnings]
    return watch.stop()


@tells_shortages
def inspect_all(
    loras: Sequence[LoraItem], against: str | os.PathLike[str] | None, *, on_step: OnStep | None = None
) -> Report:
    """Return what Inspect LoRA shows of the LoRAs of its inputs, every layer measured; raises OptionError for none."""
    if not loras:
        raise OptionError("lora_name: nothing to inspect; choose a LoRA, or wire a stack that holds one.")
    first, *more = loras
    return inspect(first, [against] if against else [], stack=more, spectra=True, on_step=on_step)


def _opened(file: LoraItem, files: ExitStack) -> StackedLora | None:
    """Return the open LoRA, or None if it is something else; what is wrong with a broken one is raised."""
    try:
        return open_stack([file], "paper", files)[0]
    except NotALoraError:
        raise
    except WrongFileKindError:
        return None
    except FileFormatError:
        folder = _path(file)
        if folder.is_dir() and not (folder / CONFIG_NAME).is_file():  # of a model: Checkpoint says what is wrong
            return None
        raise


def _path(file: LoraItem) -> Path:
    return Path(file if isinstance(file, (str, os.PathLike)) else file[0])


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


def _describe_loras(loras: Sequence[StackedLora], checkpoints: Sequence[Checkpoint], report: Report) -> None:
    report.inputs += [item.lora.file.described() for item in loras]
    words = dict.fromkeys(word for item in loras for word in words_of(item.lora))
    if words:
        report.notes.append("trigger words: " + ", ".join(words))
    if checkpoints:
        _match(loras, checkpoints, report)
        return
    report.loras = [describe_lora(item.lora) for item in loras]
    if len(loras) > 1:
        for described, item in zip(report.loras, loras, strict=True):
            described.strength_model, described.strength_clip = item.strength_model, item.strength_clip


def _match(loras: Sequence[StackedLora], checkpoints: Sequence[Checkpoint], report: Report) -> None:
    report.inputs += [checkpoint.described() for checkpoint in checkpoints]
    files = [(checkpoint.shapes, checkpoint.found) for checkpoint in checkpoints]
    found = [item for _, items in files for item in items]
    match = match_stack(loras, KeyMap(*files), found, "ignore")
    report.arch, report.title = describe(found)
    report.loras = match.reports
    for one in match.reports:
        if one.modules_matched == 0 and one.unsupported:
            kinds = " and ".join(one.unsupported)
            report.warnings.append(f"{one.name}: its modules are {kinds}, which this version can't apply.")
        elif one.modules_matched == 0:
            looks = f"; it looks like {' or '.join(one.arches)}" if one.arches else ""
            report.warnings.append(f"{one.name}: nothing of it fits {report.title}{looks}.")


def _measure(
    loras: Sequence[StackedLora], checkpoints: Sequence[Checkpoint], report: Report, on_step: OnStep | None
) -> None:
    """Read the adapters, and fill in layers, blocks and pairs."""
    files = [item.lora for item in loras]
    shared_arches(files)  # refuses those of different models
    reference = Reference.of(checkpoints) if checkpoints else guessed(files)
    layers = [reference.layers(item, one) for item, one in zip(loras, report.loras, strict=True)]
    if not checkpoints:  # else the match has told
        report.warnings += [warning for one in report.loras for warning in about_blocks(one)]
    compared = min(len(loras), MOST_COMPARED)
    places = places_of(layers[:compared]) if len(loras) > 1 else {}
    step = LayerSteps(on_step, sum(map(len, layers)) + len(places))
    described = zip(layers, report.loras, strict=True)
    entries = [analysed(own, reference, one, step) for own, one in described]
    report.layers = [{"lora": number, **entry} for number, own in enumerate(entries) for entry in own]
    blocks = agreements(places, compared, reference, step)
    names = [item.lora.name for item in loras]
    if len(loras) > 1:
        report.pairs = pairs_of(blocks, names[:compared])
        report.interference = total_of(blocks, compared).interference
        report.warnings += islice(twins(report.pairs), _TWINS)
    if len(loras) > compared:
        report.warnings.append(f"{len(loras)} LoRAs: the first {compared} alone are compared with each other.")
    report.blocks = _blocks(entries, blocks)
    for number, described in enumerate(report.loras):
        described.blocks = _with_sizes(described.blocks, {one["block"]: one["loras"][number] for one in report.blocks})
    report.warnings += [warning for name, own in zip(names, entries, strict=True) for warning in unmeasured(name, own)]
    for item in (*files, *checkpoints):
        (item.file if isinstance(item, LoraFile) else item).check_unchanged()


def _blocks(entries: Sequence[Sequence[dict[str, Any]]], agreed: Mapping[str, Agreement]) -> list[dict[str, Any]]:
    """Return the report's blocks in the order of the model; a LoRA that has nothing in one has None there."""
    names = in_order([*(entry["block"] for own in entries for entry in own), *agreed])
    by_block: list[dict[str, list[dict[str, Any]]]] = []
    for own in entries:
        by_block.append({})
        for entry in own:
            by_block[-1].setdefault(entry["block"], []).append(entry)
    return [
        {
            "block": name,
            "interference": agreed[name].interference if name in agreed else None,
            "loras": [summed(own[name]) if name in own else None for own in by_block],
        }
        for name in names
    ]


def _with_sizes(
    blocks: Sequence[dict[str, Any]], measured: Mapping[str, dict[str, Any] | None]
) -> list[dict[str, Any]]:
    """Return the blocks of one LoRA with their sizes; where no model was given, those that were measured."""
    layers = {name: one["layers"] for name, one in measured.items() if one}
    counts = blocks or [{"block": name, "matched": count, "total": count} for name, count in layers.items()]
    sizes = {name: {key: one[key] for key in ("norm", "relative_size")} for name, one in measured.items() if one}
    return [{**block, **sizes.get(block["block"], {"norm": None, "relative_size": None})} for block in counts]
