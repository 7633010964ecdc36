"""The jobs of rewriting one file: runs of bytes that are copied, and tensors that change or get another format.

A tensor that goes from one plain number format to another is read into memory that its thread uses again, changed
there, rounded there, and written from there. Whatever else there is passes through tensors of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...algebra.rounding import RealisedChange, SampledRows, round_to
from ...files.dtypes import DTYPES, torch_dtype
from ...files.tensorfile import TensorFile, byte_view
from ...files.tensorheader import TensorInfo
from ...files.tensorwriter import Sink
from ...lazytorch import torch
from ...options import Semantics
from ...parallel.pipeline import Worker
from ...reading.checkpoint import OpenPart
from ...stack.apply import Placed, apply_stack
from ...stack.matching import PlacedSpec
from ...stack.sizes import weight_square
from .fileplan import FilePlan
from .steps import Step, WrittenTensors

PIECE = 2**20  # numbers that are cast at a time: they stay in the processor's cache
_HEAD = 2**12  # numbers that nearly always tell whether a weight has changed


@dataclass(frozen=True, slots=True)
class Effect:
    """What one adapter does to its target."""

    item: PlacedSpec
    changes: bool  # anything
    change: float | None  # |dW|² at strength 1
    weight: float | None  # |W|², from a sample


@dataclass(slots=True)
class Outcome:
    """What one job has to say."""

    effects: list[Effect] = field(default_factory=list)
    clamped: int = 0  # values that were beyond the range of the format
    broken: str = ""  # the key of a weight that is NaN or infinity in places with its change
    was_broken: bool = False  # it was so before
    lost: str = ""  # the key of a weight whose change is too small for its format
    format: str = ""  # the number format that a changed weight is written in, as headers name it
    realised: RealisedChange | None = None  # what became of the change in it


Job = Callable[[Worker], Outcome]


@dataclass(frozen=True, slots=True)
class FileJobs:
    """Makes the jobs of one file."""

    part: OpenPart
    plan: FilePlan
    changes: Mapping[str, Sequence[PlacedSpec]]  # key -> what applies to it, in order
    semantics: Semantics
    writer: Sink

    def jobs(self) -> Iterator[Job]:
        """Yield the jobs in the order of the file; what is copied and lies together is one run."""
        source, run = self.plan.source, list[TensorInfo]()
        for step in self.plan.steps:
            if run and (step.write or source is None or source[step.name].start != run[-1].start + run[-1].nbytes):
                yield self._copy(run)
                run = []
            if step.write:
                yield self._job(step, source)
            else:
                assert source is not None  # only bytes of safetensors files are copied
                run.append(source[step.name])
        if run:
            yield self._copy(run)

    def _copy(self, run: Sequence[TensorInfo]) -> Job:
        def job(worker: Worker) -> Outcome:
            assert self.plan.source is not None
            self.writer.copy([info.name for info in run], self.plan.source, worker.wrote)
            return Outcome()

        return job

    def _job(self, step: Step, source: TensorFile | None) -> Job:
        changes = bool(self.changes.get(self.part.key(step.name)))
        is_plain = step.is_rounding and not self.part.tensors.coded_as(step.name) and step.planned[0].nbytes > 0
        if source is None or not is_plain:
            return lambda worker: self._general(step, worker)
        if not changes:
            return lambda worker: self._cast(step, source, worker)
        if step.planned[0].dtype.startswith("F8_"):  # how much of a change survives is told
            return lambda worker: self._general(step, worker)
        return lambda worker: self._changed(step, source, worker)

    def _cast(self, step: Step, source: TensorFile, worker: Worker) -> Outcome:
        """Round a weight, piece by piece, into another format."""
        (planned,), info, clamped, written = step.planned, source[step.name], 0, 0
        width = DTYPES[info.dtype][0]
        for start in range(0, info.nbytes, PIECE * width):
            memory = worker.memory(0, min(PIECE * width, info.nbytes - start))
            source.read_into(step.name, memory, start)
            rounded, beyond = round_to(_tensor(memory, info.dtype, (-1,)).float(), torch_dtype(planned.dtype))
            data = byte_view(rounded)
            self.writer.put_bytes(step.name, data, written)
            worker.wrote(len(data))
            clamped, written = clamped + beyond, written + len(data)
        return Outcome(clamped=clamped)

    def _changed(self, step: Step, source: TensorFile, worker: Worker) -> Outcome:
        """Change a weight of a plain format, in place where it keeps the format."""
        (planned,), info = step.planned, source[step.name]
        memory = worker.memory(0, info.nbytes)
        source.read_into(step.name, memory)
        before = _tensor(memory, info.dtype, info.shape)
        head = before.flatten()[:_HEAD].clone()
        stack, outcome = self._stack(step, before)
        sampled = SampledRows(before) if _is_change(outcome) and planned.shape == info.shape else None
        out = before
        if planned.dtype != info.dtype:
            nbytes = before.numel() * DTYPES[planned.dtype][0]
            out = _tensor(worker.memory(1, nbytes), planned.dtype, info.shape)
        after = apply_stack(before, stack, self.semantics, out=out, sampled=sampled)
        is_sound = sampled is not None and planned.dtype != "F16" and math.isfinite(sampled.sum)
        is_finite = is_sound or _is_finite(after)
        if planned.dtype == "F16" and not is_finite:
            exact = apply_stack(source.tensor(step.name), stack, self.semantics)
            is_finite = _is_finite(exact)
            after, outcome.clamped = round_to(exact, torch.float16)
        if not is_finite:
            outcome.broken, outcome.was_broken = self.part.key(step.name), not _is_finite(source.tensor(step.name))
        if _is_change(outcome) and _is_same(after.flatten()[:_HEAD], head):
            exact = source.tensor(step.name)
            if _is_same(after, exact) and not torch.equal(apply_stack(exact, stack, self.semantics), exact.float()):
                outcome.lost = self.part.key(step.name)
        outcome.realised = sampled.realised(after) if sampled else None
        self.writer.put(step.name, after)
        worker.wrote(planned.nbytes)
        return outcome

    def _general(self, step: Step, worker: Worker) -> Outcome:
        """Write the tensors that stand for one tensor, whatever they are."""
        assert step.write is not None
        before = self.part.tensors.tensor(step.name)
        stack, outcome = self._stack(step, before)
        after = apply_stack(before, stack, self.semantics) if stack else before
        written = step.write(after)
        for name, tensor in written.tensors.items():
            self.writer.put(name, tensor)
        worker.wrote(sum(planned.nbytes for planned in step.planned))
        outcome.clamped = written.clamped
        if stack and not _is_finite(after):
            outcome.broken, outcome.was_broken = self.part.key(step.name), not _is_finite(before.float())
        is_same = _is_change(outcome) and _is_same(written.tensors.get(step.name), before)
        if is_same and not torch.equal(after, before.float()):
            outcome.lost = self.part.key(step.name)
        if _is_change(outcome) and not written.clamped and after.shape == before.shape:
            outcome.realised = self._realised(step, before, after, written)
        return outcome

    def _realised(
        self, step: Step, before: torch.Tensor, after: torch.Tensor, written: WrittenTensors
    ) -> RealisedChange | None:
        if written.values is None:
            return SampledRows(before, after).realised(written.tensors[step.name])
        tensors = self.part.tensors
        is_on_grid = tensors.coded_as(step.name) or tensors[step.name].dtype.startswith("F8_")
        rounded = before if is_on_grid or step.write is None else step.write(before).values
        return None if rounded is None else RealisedChange.of(before, after, rounded, written.values)

    def _stack(self, step: Step, before: torch.Tensor) -> tuple[list[Placed], Outcome]:
        placed = self.changes.get(self.part.key(step.name), ())
        stack = [item.placed() for item in placed]
        effects = [_effect(item, one, before) for item, one in zip(placed, stack, strict=True)]
        return stack, Outcome(effects, format=step.planned[0].dtype)


def _effect(item: PlacedSpec, placed: Placed, weight: torch.Tensor) -> Effect:
    square = weight_square(weight, item.target)
    changes = not placed.adapter.is_zero()
    return Effect(item, changes, placed.adapter.change_square(), None if square is None else float(square))


def _is_change(outcome: Outcome) -> bool:
    return any(effect.changes for effect in outcome.effects)


def _is_same(written: torch.Tensor | None, before: torch.Tensor) -> bool:
    return written is not None and written.dtype == before.dtype and torch.equal(written, before)


def _is_finite(tensor: torch.Tensor) -> bool:
    """Tell whether the numbers are all finite: their sum is, or the smallest and the largest are; NaN would be both."""
    tensor = tensor.float() if tensor.element_size() == 1 else tensor  # fp8 has no sums
    if not tensor.numel() or math.isfinite(float(tensor.sum())):  # what there is is the quickest to find out so
        return True
    return all(math.isfinite(float(bound)) for bound in torch.aminmax(tensor))


def _tensor(memory: memoryview, dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
    data: Any = memory
    return torch.frombuffer(data, dtype=torch_dtype(dtype)).reshape(shape)
