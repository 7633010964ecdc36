"""Merge a stack of LoRAs into a checkpoint, streaming from disk to disk."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...errors import OptionError, UnknownArchError
from ...files.hashes import Hashes
from ...files.leftovers import told_of
from ...options import MERGE_DTYPE, MergeDtype, Semantics
from ...options.merge import MERGE
from ...parallel.asking import cancellable
from ...parallel.progress import OnStep
from ...reading.checkpoint import Checkpoint
from ...receipts.hashing import InputHashes
from ...receipts.receipt import RECEIPT, Receipt, receipt_of
from ...report import Report, Stopwatch, described_file
from ...shortage import tells_shortages
from ...stack.matching import Match, PlacedSpec, match_stack
from ...stack.opened import LoraItem, StackedLora, open_stack
from ...stack.pairs import Role, for_model, role_of, told
from ...stack.refusals import OnUnmatched
from .rewriter import Rewriter

# Metadata that describes the input's bytes and would be false for the output
_STALE_METADATA = (RECEIPT, "modelspec.hash_sha256", "sshs_model_hash", "sshs_legacy_hash")
MERGED_FROM = "lora_core.merged_from"


@tells_shortages
def merge(
    base: str | os.PathLike[str],
    loras: Iterable[LoraItem],
    out: str | os.PathLike[str],
    *,
    dtype: MergeDtype = "keep",
    semantics: Semantics = "paper",
    on_unmatched: OnUnmatched = "warn",
    verify: bool = False,
    pair: Role = "high",
    overwrite: bool = False,
    on_step: OnStep | None = None,
    hashes: Hashes | None = None,
) -> Report:
    """Write `base` with `loras` merged in to `out`: W' = W + sum strength · delta, summed in fp32 and rounded once.

    `base` is a file, or a model folder in diffusers' or Hugging Face's layout; then `out` is a folder too. Each of
    `loras` is a path, (path, strength), (path, strength_model, strength_clip) or with the strengths of blocks, as
    `parse_blocks` reads them, fourth; or a StackEntry whose name is a path, or that holds tensors: of a pair the file
    that `pair` says is used. Tensors that no LoRA touches are copied byte for byte. `on_step(done, total)` counts bytes
    written and may raise to cancel. Memory is bounded by a few copies of the largest touched tensor. The output has a
    receipt (`receipt.RECEIPT`); `hashes` remembers those of the inputs. `verify` makes every tensor again and compares
    it with the written one, bit by bit, before the output gets its name.

    Raises a LoraError that says what is wrong; then, as on any other exception, nothing is left.
    """
    MERGE_DTYPE.check(dtype)
    MERGE.option("semantics").check(semantics)
    MERGE.option("on_unmatched").check(on_unmatched)
    MERGE.option("pair").check(pair)
    loras = list(loras)
    report = Report("merge")
    watch = Stopwatch(report)
    with cancellable(on_step) as step, ExitStack() as files:
        checkpoint = files.enter_context(Checkpoint(base))
        stack = open_stack(for_model(loras, pair), semantics, files)
        if not stack:
            raise OptionError("merge: no LoRA given; name at least one (rows of a stack that are off do not count).")
        match = match_stack(stack, checkpoint.keymap, checkpoint.found, on_unmatched)
        _refuse_whole_numbers(checkpoint, match)
        _fill(report, checkpoint, stack, match)
        report.notes += told(loras, pair)
        used, options = [role_of(item, pair) for item in loras], {"dtype": dtype, "semantics": semantics}
        receipt = receipt_of("merge", options, base=checkpoint, stack=stack, pairs=used)
        hashing = files.enter_context(InputHashes(receipt.paths(), hashes, step))
        metadata = partial(_metadata, _provenance(stack, semantics))
        rewriter = Rewriter(checkpoint, changes_of(match), dtype, semantics, metadata, receipt, hashing.step)
        work = _Merge(rewriter, checkpoint, stack, receipt, hashing, report)
        work.write(Path(out), verify=verify, overwrite=overwrite)
    return watch.stop()


@dataclass(frozen=True, slots=True)
class _Merge:
    """One run: all that is open, and what it tells."""

    rewriter: Rewriter
    checkpoint: Checkpoint
    stack: Sequence[StackedLora]
    receipt: Receipt
    hashing: InputHashes
    report: Report

    def write(self, out: Path, **options: bool) -> None:
        if self.checkpoint.is_folder:
            written = self.rewriter.write_folder(out, self.finish, **options)
            self.report.outputs.append({"name": out.name, "bytes": written})
        else:
            inputs = [*self.checkpoint.paths, *(path for item in self.stack for path in item.lora.file.paths)]
            self.rewriter.write_file(out, inputs, self.finish, **options)
            self.report.outputs.append(described_file(out))
        self.report.notes += told_of(out.parent)

    def finish(self) -> str:
        """Return the receipt, when all is written; raises if an input changed meanwhile."""
        self.rewriter.tell(self.report)
        hashes = self.hashing.wait()
        self.checkpoint.check_unchanged()
        for item in self.stack:
            item.lora.file.check_unchanged()
        entries = [one.entry(hashes) for role in ("base", "loras") for one in self.receipt.inputs[role]]
        for described, entry in zip(self.report.inputs, entries, strict=True):
            described.update({"sha256": entry["sha256"]} if "sha256" in entry else {})
        return self.receipt.text(hashes, self.report)


def changes_of(match: Match) -> dict[str, list[PlacedSpec]]:
    """Return what changes each key, in the order of the stack, without what has strength 0."""
    changes = {key: [item for item in placed if item.strength] for key, placed in match.by_key.items()}
    return {key: placed for key, placed in changes.items() if placed}


def _refuse_whole_numbers(checkpoint: Checkpoint, match: Match) -> None:
    for key in match.by_key:
        if not checkpoint.info(key).is_float:
            raise UnknownArchError(
                f"{checkpoint.name}: {key!r} holds whole numbers ({checkpoint.info(key).dtype}), which this version "
                "can't change; use the fp16, bf16 or plain fp8 version of the model."
            )


def _metadata(note: str, found: Mapping[str, str]) -> dict[str, str]:
    kept = {key: value for key, value in found.items() if key not in _STALE_METADATA}
    return {**kept, MERGED_FROM: note}


def _provenance(stack: Sequence[StackedLora], semantics: Semantics) -> str:
    return json.dumps({"loras": [item.described() for item in stack], "semantics": semantics})


def _fill(report: Report, checkpoint: Checkpoint, stack: Sequence[StackedLora], match: Match) -> None:
    report.inputs = [checkpoint.described(), *(item.lora.file.described() for item in stack)]
    report.arch, report.title = checkpoint.arch, checkpoint.title
    report.loras, report.warnings = match.reports, [*checkpoint.warnings, *match.warnings]
    report.notes = checkpoint.notes()
