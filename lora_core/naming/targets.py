"""Targets: where in a checkpoint an adapter goes, and which of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Literal

from ..arch.base import Shape
from ..lazytorch import torch
from .places import Place, Run, run_together

Role = Literal["diffusion", "text_encoder"]


@dataclass(frozen=True, slots=True)
class Target:
    """Where an adapter goes: a tensor of the checkpoint, or a slice of it, and how it lies there."""

    key: str
    shape: Shape  # of what the adapter changes, as the adapter sees it
    role: Role = "diffusion"  # which of the two strengths counts
    start: int | None = None  # first row of the slice; None is the whole tensor
    transposed: bool = False
    rows: tuple[int, int] | None = None  # (first, all) rows of an adapter that spans several targets; None: all here
    order: tuple[Run, ...] = ()  # the rows' runs as the adapter has them, in the tensor as it sees it; () if one run
    file: int = field(default=0, compare=False)  # which of several model files holds the key

    @property
    def adapter_shape(self) -> Shape:
        """The shape of the whole change of the adapter that this target, or this target among others, belongs to."""
        return self.shape if self.rows is None else (self.rows[1], *self.shape[1:])

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs of rows that the adapter changes, in its own order, as they lie in the tensor as it sees it."""
        return self.order or ((self.start or 0, self.shape[0] if self.shape else 1),)

    def take(self, weight: torch.Tensor) -> torch.Tensor:
        """Return this target's part of `weight` as the adapter sees it: a view, or a copy where the order differs."""
        views = self._views(weight)
        return torch.cat(views) if self.order else views[0]

    def put(self, weight: torch.Tensor, part: torch.Tensor) -> None:
        """Write `part`, as `take` returned it, back into `weight` in place."""
        for view, rows in zip(self._views(weight), self._split(part), strict=True):
            if rows.data_ptr() != view.data_ptr():  # else it is the view itself, changed in place
                view.copy_(rows)

    def laid(self, part: torch.Tensor) -> torch.Tensor:
        """Return rows of the adapter as they lie in the weight from this target's first row on, zero between them."""
        if not self.order:
            return part
        first = self.start or 0
        result = part.new_zeros((max(map(sum, self.order)) - first, *part.shape[1:]))
        for (start, length), rows in zip(self.order, self._split(part), strict=True):
            result.narrow(0, start - first, length).copy_(rows)
        return result

    def _views(self, weight: torch.Tensor) -> list[torch.Tensor]:
        view = weight.t() if self.transposed else weight
        is_whole = self.start is None and not self.order  # of a single number, too
        return [view] if is_whole else [view.narrow(0, *run) for run in self.runs]

    def _split(self, part: torch.Tensor) -> Sequence[torch.Tensor]:
        return part.split([length for _, length in self.order]) if self.order else (part,)


def overlap(place: Place, held: Place, key: str, shape: Shape, role: Role) -> tuple[Target, ...]:
    """Return the targets of the rows that a name's `place` and a tensor, at `held`, have in common; mostly one."""
    transposed = place.transposed != held.transposed
    if transposed and (len(shape) != 2 or place[1:4] != held[1:4]):
        return ()
    whole = Target(key, shape[::-1] if transposed else shape, role, transposed=transposed)
    return (whole,) if place.rows == held.rows else _common(place, held, whole)


def whole_shape(held: Place, shape: Shape) -> Shape:
    """Return the shape of the module of which a tensor of `shape` is the part `held`."""
    if held.transposed:
        shape = shape[::-1]
    rows = held.share(shape[0]) if shape else None
    return shape if rows is None else (rows, *shape[1:])


def _common(place: Place, held: Place, tensor: Target) -> tuple[Target, ...]:
    """Return the targets of what is both wanted and here: one for each run of the adapter's rows."""
    rows = held.share(tensor.shape[0]) if tensor.shape else None
    wanted, there = (place.runs(rows), held.runs(rows)) if rows else (None, None)
    if not wanted or not there:
        return ()
    met = sorted(_met(_at(wanted), _at(there)))
    groups: list[list[tuple[int, int, int]]] = []
    for row, start, length in met:
        if groups and sum(groups[-1][-1][::2]) == row:
            groups[-1].append((row, start, length))
        else:
            groups.append([(row, start, length)])
    total = sum(length for _, length in wanted)
    return tuple(_target(group, total, tensor) for group in groups)


def _target(group: Sequence[tuple[int, int, int]], total: int, tensor: Target) -> Target:
    """Return the target of a run of the adapter's rows, given as (its row, the tensor's row, number of rows)."""
    runs = tuple(run_together((start, length) for _, start, length in group))
    length = sum(number for _, number in runs)
    start = None if length == tensor.shape[0] else min(runs)[0]
    rows = None if length == total else (group[0][0], total)
    order = runs if len(runs) > 1 else ()
    return replace(tensor, shape=(length, *tensor.shape[1:]), start=start, rows=rows, order=order)


def _at(runs: Sequence[Run]) -> list[tuple[int, int, int]]:
    """Return (place among all of these rows, first row, number of rows) of each run."""
    ends = accumulate(length for _, length in runs)
    return [(end - length, start, length) for end, (start, length) in zip(ends, runs, strict=True)]


def _met(
    wanted: Sequence[tuple[int, int, int]], there: Sequence[tuple[int, int, int]]
) -> Iterator[tuple[int, int, int]]:
    """Yield (row among the wanted ones, row among those there, number) of what both have."""
    for row, first, number in wanted:
        for other, start, length in there:
            begin, end = max(first, start), min(first + number, start + length)
            if begin < end:
                yield row + begin - first, other + begin - start, end - begin
