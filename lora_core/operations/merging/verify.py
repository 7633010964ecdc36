"""Verify a merged file: find what its receipt names, make every tensor again, and compare it bit by bit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import cast

from ...errors import ReceiptError
from ...files.comparing import Difference
from ...files.hashes import Hashes, remembered
from ...files.openfile import read_bounded
from ...files.tensorfile import TensorFile
from ...options import MERGE_DTYPE, MergeDtype, Semantics
from ...options.merge import MERGE
from ...parallel.asking import cancellable
from ...parallel.progress import OnStep
from ...reading.checkpoint import Checkpoint
from ...receipts.inputfinder import InputFinder, Inputs, LoraGiven
from ...receipts.readback import ReadReceipt, read_receipt
from ...receipts.receipt import RECEIPT, RECEIPT_FILE, Receipt, receipt_of
from ...report import Report, Stopwatch
from ...shortage import tells_shortages
from ...stack.matching import match_stack
from ...stack.opened import open_stack
from .merge import changes_of
from .rewriter import Rewriter

_LARGEST = 1 << 22  # bytes of a folder's receipt


@tells_shortages
def verify(
    file: str | os.PathLike[str],
    *,
    base: str | os.PathLike[str] | None = None,
    loras: Iterable[LoraGiven] = (),
    search: Iterable[str | os.PathLike[str]] = (),
    on_step: OnStep | None = None,
    hashes: Hashes | None = None,
) -> Report:
    """Return a report whose `verified` says whether `file`, a merged file or model folder, is what its receipt says.

    `base` and `loras` are the inputs, under any names: they are known by their content. Each of `loras` is what
    `merge` takes; strengths that are given have to be those of the receipt. What is not given is looked for in the
    folders `search`. Every tensor is made again and compared with bounded memory; `on_step(done, total)` counts bytes.
    All files are hashed as they are now; `hashes` is not asked, and learns them.

    Raises ReceiptError if there is no receipt, or the inputs are not, or not all, the ones that it names.
    """
    path, report = Path(file), Report("verify")
    watch = Stopwatch(report)
    receipt = read_receipt(_receipt_text(path), path.name)
    _check_options(receipt, path.name)
    finder = InputFinder(path.name, receipt, [Path(folder) for folder in search], hashes or remembered())
    inputs = finder.inputs(None if base is None else Path(base), list(loras))
    with cancellable(on_step) as step, ExitStack() as files:
        different, tensors = _differences(path, receipt, inputs, report, files, step)
    finder.check_unchanged()
    report.verified = {
        "name": path.name,
        "equal": not different,
        "tensors": tensors,
        "differences": [asdict(one) for one in different],
    }
    if different:
        report.notes += _maybe(receipt.versions)
    return watch.stop()


def _receipt_text(path: Path) -> str | None:
    if path.is_dir():
        found = read_bounded(path / RECEIPT_FILE, _LARGEST)
        return None if found is None else found.decode("utf-8", "replace")
    with TensorFile(path) as file:
        return file.metadata.get(RECEIPT)


def _check_options(receipt: ReadReceipt, where: str) -> None:
    if receipt.operation != "merge":
        raise ReceiptError(
            f"{where}: its receipt is of another operation ({receipt.operation!r:.20}); this version verifies merges."
        )
    MERGE_DTYPE.check(receipt.options.get("dtype"))
    MERGE.option("semantics").check(receipt.options.get("semantics"))


def _differences(
    path: Path, receipt: ReadReceipt, inputs: Inputs, report: Report, files: ExitStack, on_step: OnStep | None
) -> tuple[list[Difference], int]:
    """Return how the file differs from what is made again, and how many tensors were."""
    dtype = cast("MergeDtype", receipt.options["dtype"])
    semantics = cast("Semantics", receipt.options["semantics"])
    checkpoint = files.enter_context(Checkpoint(inputs.base))
    stack = open_stack(inputs.loras, semantics, files)
    match = match_stack(stack, checkpoint.keymap, checkpoint.found, "ignore")
    report.inputs = [checkpoint.described(), *(item.lora.file.described() for item in stack)]
    report.arch, report.title, report.loras = checkpoint.arch, checkpoint.title, match.reports
    again = receipt_of("merge", receipt.options, base=checkpoint, stack=stack)
    rewriter = Rewriter(checkpoint, changes_of(match), dtype, semantics, _same, again, on_step)
    rewriter.ask()
    different = rewriter.compare(path)
    rewriter.tell(report)
    report.warnings.clear()  # what the merge itself had to tell
    for item in stack:
        item.lora.file.check_unchanged()
    checkpoint.check_unchanged()
    return different, sum(len(plan.planned) for _, plan in rewriter.plans)


def _same(metadata: Mapping[str, str]) -> dict[str, str]:
    return dict(metadata)


def _maybe(versions: Mapping[str, str]) -> Sequence[str]:
    """Return what may explain differences that nobody made: sums are rounded otherwise by another program."""
    here = Receipt.versions()
    other = [f"{name} {versions[name]}, now {now}" for name, now in here.items() if versions.get(name, now) != now]
    return [f"made with other versions, which may round sums otherwise: {'; '.join(other)}"] if other else []
