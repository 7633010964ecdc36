"""A checkpoint written anew with a stack of adapters applied: one file, or a folder with the same files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...algebra.rounding import RealisedChange
from ...arch.base import Shape
from ...errors import OptionError, OutputError
from ...files.comparing import Comparer, Difference
from ...files.folderwriter import FolderWriter
from ...files.tensorfile import TensorFile
from ...files.tensorwriter import Sink, TensorWriter
from ...options import MergeDtype, Semantics
from ...parallel.pipeline import run_jobs
from ...parallel.progress import OnStep
from ...reading.checkpoint import Checkpoint, OpenPart
from ...receipts.receipt import RECEIPT, RECEIPT_FILE, SPARE, Receipt
from ...report import Report
from ...stack.matching import PlacedSpec
from ...stack.sizes import Size, sized, told_not_finite
from ...text import counted, some_names
from .fileplan import FilePlan, plan_files
from .folderfiles import FolderFiles, below
from .formats import SCALED, Formats
from .jobs import FileJobs
from .precision import tell_precision

Finish = Callable[[], str]  # what comes last: it checks the inputs, and returns the receipt


@dataclass(slots=True)
class Rewriter:
    """Plans at once, writes when asked, and then knows what was lost to rounding."""

    checkpoint: Checkpoint
    changes: Mapping[str, list[PlacedSpec]]  # key -> what applies to it, in order
    dtype: MergeDtype
    semantics: Semantics
    metadata: Callable[[Mapping[str, str]], dict[str, str]]  # a file's own -> the written file's
    receipt: Receipt
    on_step: OnStep | None = None
    plans: list[tuple[OpenPart, FilePlan]] = field(default_factory=list)
    clamped: int = 0
    broken: list[str] = field(default_factory=list)  # keys of NaN or infinity in the checkpoint, of those that change
    overflowed: list[str] = field(default_factory=list)  # and of those that are so by the change
    lost: list[str] = field(default_factory=list)  # keys whose change is too small for the number format
    realised: dict[str, RealisedChange] = field(default_factory=dict)  # by the written number format
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what keeps another number format than the one asked for
    _sizes: dict[int, list[Size]] = field(default_factory=dict)  # by the report of the file
    _done: int = 0
    _total: int = 0

    def __post_init__(self) -> None:
        if self.dtype == SCALED and self.checkpoint.is_folder:
            raise OptionError(
                f"dtype: {SCALED} is ComfyUI's layout of a single file, and {self.checkpoint.name} is a folder; "
                "choose bf16 or fp16."
            )
        formats = Formats(self.checkpoint, self.dtype)
        for part in self.checkpoint.parts:
            shapes = {
                name: _shape_after(info.shape, self.changes[part.key(name)])
                for name, info in part.tensors.items()
                if part.key(name) in self.changes
            }
            self.plans += [(part, plan) for plan in plan_files(part, formats, shapes)]
        self.notes = formats.notes(
            (part.key(name), info)
            for part in self.checkpoint.parts
            for name, info in part.tensors.items()
            if part.tensors.coded_as(name) is None
        )
        self._total = sum(plan.nbytes for _, plan in self.plans)

    def write_file(self, out: Path, inputs: list[Path], finish: Finish, *, verify: bool, overwrite: bool) -> None:
        """Write a checkpoint of one file; `finish` may still raise."""
        ((part, plan),) = self.plans
        first = {**self.metadata(plan.metadata), RECEIPT: self.receipt.text()}
        with TensorWriter(
            out, plan.planned, first, overwrite=overwrite, inputs=inputs, like=plan.source, spare=SPARE
        ) as writer:
            self._count(0)
            self._write(writer, part, plan)
            writer.change_metadata({**first, RECEIPT: finish()})
            if verify:
                self._prove(writer, part, plan)
            writer.commit()

    def write_folder(self, out: Path, finish: Finish, *, verify: bool, overwrite: bool) -> int:
        """Write a model folder and return its bytes; files without weights are copied."""
        files = FolderFiles(self.checkpoint, self.plans, self.dtype)
        others = files.copied(self.warnings)
        self._total = sum(path.stat().st_size for path, _ in others)
        self._total += sum(plan.nbytes for _, plan in self.plans if not plan.is_copy)
        written = files.written(others)
        with FolderWriter(out, self.checkpoint.path, self._total, overwrite=overwrite, written=written) as folder:
            self._count(0)
            files.copy(others, folder, self._count)
            for part, plan in self.plans:
                if plan.is_copy or plan.source is None:
                    continue
                target = folder.place(*below(part), plan.source.path.name)
                metadata = self.metadata(plan.metadata)
                with TensorWriter(target, plan.planned, metadata, like=plan.source) as writer:
                    self._write(writer, part, plan)
                    if verify:
                        self._prove(writer, part, plan)
                    writer.commit()
            files.write_json(folder)
            folder.write_text(finish(), RECEIPT_FILE)
            folder.commit()
        return self._total

    def compare(self, out: Path) -> list[Difference]:
        """Make everything again and return how the tensors of `out`, a written file or folder, differ from it."""
        found: list[Difference] = []
        for part, plan in self.plans:
            assert plan.source is not None or not self.checkpoint.is_folder
            names = (*below(part), plan.source.path.name) if self.checkpoint.is_folder and plan.source else ()
            with TensorFile(out.joinpath(*names)) as written:
                found += self._compare(written, part, plan)
        return found

    def _compare(self, written: TensorFile, part: OpenPart, plan: FilePlan) -> list[Difference]:
        comparer = Comparer(written, plan.planned)
        self._write(comparer, part, plan)
        return list(comparer.differences.values())

    def _prove(self, writer: TensorWriter, part: OpenPart, plan: FilePlan) -> None:
        """Make a written file again and raise OutputError if a bit of it differs."""
        same = self.checkpoint, self.changes, self.dtype, self.semantics, self.metadata, self.receipt
        again = Rewriter(*same, on_step=lambda _, __: self.ask())
        with writer.reopened() as written:
            different = again._compare(written, part, plan)
        if different:
            raise OutputError(
                f"{writer.path.name}: tensor {different[0].key!r} reads back differently; nothing was kept."
            )

    def ask(self) -> None:
        """Tell no progress, so that the caller may cancel."""
        self._count(0)

    def tell(self, report: Report) -> None:
        """Add to the report how large each LoRA is, and what rounding did."""
        for lora in report.loras:
            lora.blocks, lora.relative_size = sized(lora.blocks, self._sizes.get(id(lora), ()))
        report.warnings += self.warnings
        report.notes += self.notes
        report.warnings += told_not_finite(size for sizes in self._sizes.values() for size in sizes)
        report.warnings += self._told_broken()
        if self.clamped:
            report.warnings.append(
                f"{self.clamped} values were beyond the range of the written number format and were clamped."
            )
        if self.lost:
            report.warnings.append(
                f"{counted(self.lost, 'weight')} not changed, because the change is below the steps of the "
                f"number format: {some_names(self.lost)}; a dtype with more digits keeps it."
            )
        tell_precision(self.realised, report)

    def _write(self, writer: Sink, part: OpenPart, plan: FilePlan) -> None:
        jobs = FileJobs(part, plan, self.changes, self.semantics, writer).jobs()
        for outcome in run_jobs(list(jobs), self._count):
            for effect in outcome.effects:
                effect.item.tell(changes=effect.changes)
                size = Size.on(effect.item.target, self.checkpoint.keymap, effect.change, effect.weight)
                self._sizes.setdefault(id(effect.item.report), []).append(size)
            self.clamped += outcome.clamped
            if outcome.broken:
                (self.broken if outcome.was_broken else self.overflowed).append(outcome.broken)
            self.lost += [outcome.lost] if outcome.lost else []
            if outcome.realised:
                self.realised.setdefault(outcome.format, RealisedChange()).add(outcome.realised)

    def _told_broken(self) -> list[str]:
        """Return what to say of weights of NaN or infinity; those that nothing changes are copied and not looked at."""
        told: list[str] = []
        if self.broken:
            told.append(
                f"{self.checkpoint.name}: {counted(self.broken, 'weight')} of NaN or infinity before any LoRA, and so "
                f"after: {some_names(self.broken)}; the file is damaged (weights without a LoRA were not looked at)."
            )
        if self.overflowed:
            told.append(
                f"{counted(self.overflowed, 'weight')} beyond the numbers of fp32 with these LoRAs: "
                f"{some_names(self.overflowed)}; lower the strengths, or leave out the LoRA that is damaged."
            )
        return told

    def _count(self, nbytes: int) -> None:
        self._done += nbytes
        if self.on_step:
            self.on_step(self._done, self._total)


def _shape_after(shape: Shape, placed: list[PlacedSpec]) -> Shape:
    """Return a weight's shape after its adapters: a control LoRA pads its first layer."""
    return next((item.spec.new_shape for item in reversed(placed) if item.spec.new_shape), shape)
