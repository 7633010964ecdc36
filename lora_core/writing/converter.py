"""Carries out a conversion plan: every name to write gets its tensors, renamed, cut, joined, or as plain LoRA."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from ..adapters import Adapter, FullDifference, Shape
from ..adapters.base import PlacedRows, join
from ..adapters.parts import Parts
from ..adapters.recast import as_lora, cut_lora, is_lora, take_rows, unread
from ..adapters.suffixes import is_shared
from ..errors import AdapterError, OptionError
from ..lazytorch import torch
from ..naming.dialects import Writing
from ..reading.adapterspec import AdapterSpec
from ..reading.checkpoint import Checkpoint, weight_on
from ..reading.lorafile import LoraFile
from .parts import folded_fields, parts_of_file, spelled
from .plan import Job, Piece

_REMEMBERED = 4  # adapters: the pieces of a fused weight follow one another


@dataclass(frozen=True, slots=True)
class Made:
    """What became of one job."""

    job: Job
    parts: Parts
    error: float  # |written - exact| / |exact| of the delta
    was: str  # the kinds that it was made of
    recast: bool  # plain LoRA now, because that was asked for or nothing else could be

    def tensors(self, writing: Writing) -> dict[str, torch.Tensor]:
        slot = self.job.slot
        return spelled(self.parts, slot.name, slot.param, slot.shape, writing)


@dataclass(slots=True)
class Converter:
    """Makes the parts of one job after the other."""

    lora: LoraFile
    base: Checkpoint | None
    to_lora: bool
    rank: int
    _known: dict[tuple[int, bool], tuple[Adapter, float]] = field(default_factory=dict)

    def made(self, job: Job) -> Made:
        """Return what becomes of a job; raises OptionError if that takes the base and none was given."""
        was = " and ".join(dict.fromkeys(kind for piece in job.pieces for kind in piece.spec.kinds))
        if not self.to_lora:
            if job.is_rename:
                return Made(job, parts_of_file(self.lora, job.pieces[0].spec), 0.0, was, False)
            try:
                return Made(job, self._joined(job, recast=False)[0].parts(), 0.0, was, False)
            except AdapterError:
                pass  # becomes plain LoRA
        adapter, error = self._joined(job, recast=True)
        widened = job.pieces[0].spec.new_shape if job.is_rename else None
        is_new = any(not piece.spec.is_lora or piece.spec.magnitude for piece in job.pieces)
        return Made(job, replace(adapter.parts(), new_shape=widened), error, was, is_new or error > 0)

    def _joined(self, job: Job, *, recast: bool) -> tuple[Adapter, float]:
        pieces: list[PlacedRows] = []
        errors = [0.0]
        for piece in job.pieces:
            adapter, error = self._adapter(piece, recast=recast)
            runs = [(first, number) for first, number, _ in piece.runs]
            taken = take_rows(adapter, runs, piece.total)
            pieces.append(PlacedRows(taken, runs, [row for _, _, row in piece.runs]))
            errors.append(error)
        total = job.slot.shape[0] if job.slot.shape else 1
        joined = pieces[0].adapter if _fills(job, total) else join(pieces, total)
        if self.rank and recast and self.to_lora:
            joined, error = cut_lora(joined, self.rank)
            errors.append(error)
        return joined, max(errors)

    def _adapter(self, piece: Piece, *, recast: bool) -> tuple[Adapter, float]:
        """Return the adapter, or what it is as plain LoRA (a difference on vectors), and the error of that."""
        known = (id(piece.spec), recast)
        if known not in self._known:
            while len(self._known) >= _REMEMBERED:
                del self._known[next(iter(self._known))]
            adapter = self.lora.sound_adapter(piece.spec)
            self._known[known] = self._recast(adapter, piece) if recast else (adapter, 0.0)
        return self._known[known]

    def _recast(self, adapter: Adapter, piece: Piece) -> tuple[Adapter, float]:
        shape = piece.shape
        if adapter.new_shape is not None:
            adapter, shape = adapter.on_padded(), adapter.new_shape
        is_vector = piece.spec.param != "weight" or len(shape) < 2 or math.prod(shape) == max(shape)
        if (is_vector and adapter.is_whole) or is_lora(adapter, self.rank):
            return adapter, 0.0
        weight = unread(shape) if adapter.additive else self._weight(piece.spec, adapter, shape)
        if is_vector:
            return FullDifference(adapter.delta(weight)), 0.0
        return as_lora(adapter, weight, self.rank if self.to_lora else 0)

    def _weight(self, spec: AdapterSpec, adapter: Adapter, shape: Shape) -> torch.Tensor:
        """Return the weight that an adapter changes, as it sees it."""
        targets = self.base.keymap.find_first(spec.names, spec.param) if self.base else ()
        if self.base is None or not targets:
            raise OptionError(
                f"{self.lora.name}: {spec.module}: the change of {adapter.kind} depends on the weight, so it becomes "
                "plain LoRA only with the model that it is for: give the checkpoint with --base."
            )
        return weight_on(targets, self.base.tensor).reshape(shape)


def _fills(job: Job, total: int) -> bool:
    """Tell whether one adapter's rows, in the order in which they were taken, are all of the name's."""
    end = 0
    for _, number, row in job.pieces[0].runs:
        if row != end:
            return False
        end = row + number
    return end == total and len(job.pieces) == 1


def not_converted(lora: LoraFile, made: list[Made], kept: list[AdapterSpec]) -> Iterator[str]:
    """Yield the names of tensors that no job has taken over, and of those that adapters need which keep their names."""
    taken: set[str] = set()
    for item in made:
        for piece in item.job.pieces:
            around = (f"{piece.spec.module}.{name}" for name in ("alpha", "reshape_weight"))
            taken.update((*piece.spec.tensor_names(), *around))
    needed = {name for spec in kept for name in spec.tensor_names()}
    return (name for name in lora.file if name in needed or (name not in taken and not is_shared(name)))


def kept_tensors(lora: LoraFile, names: list[str], kept: list[AdapterSpec]) -> Mapping[str, torch.Tensor]:
    """Return tensors under their own names; a scale that only the header told is folded in."""
    result = {name: lora.file.tensor(name) for name in names}
    for spec in kept:
        if spec.scale.value == 1 or spec.scale.source in ("tensor", "none"):
            continue
        parts = parts_of_file(lora, spec)
        for name, tensor in folded_fields(parts).items():
            result[spec.parts[name].name] = tensor
    return result
