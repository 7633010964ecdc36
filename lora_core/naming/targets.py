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
    swap_halves: bool = False
    transposed: bool = False
    rows: tuple[int, int] | None = None  # (first, all) rows of an adapter that spans several targets; None: all here
    order: tuple[Run, ...] = ()  # runs of the tensor's rows as the adapter has them, where they are no single run
    file: int = field(default=0, compare=False)  # which of several model files holds the key

    @property
    def adapter_shape(self) -> Shape:
        """The shape of the whole change of the adapter that this target, or this target among others, belongs to."""
        return self.shape if self.rows is None else (self.rows[1], *self.shape[1:])

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs of rows that the adapter changes, in its own order, as they lie in the tensor as it sees it."""
        first, rows = self.start or 0, self.shape[0] if self.shape else 1
        halves = (first + rows // 2, rows - rows // 2), (first, rows // 2)
        return self.order or (halves if self.swap_halves else ((first, rows),))

    def take(self, weight: torch.Tensor) -> torch.Tensor:
        """Return this target's part of `weight` as the adapter sees it: a view, or a copy where the order differs."""
        if self.order:
            return torch.cat([weight.narrow(0, *run) for run in self.order])
        view = self._view(weight)
        return _swapped(view) if self.swap_halves else view

    def put(self, weight: torch.Tensor, part: torch.Tensor) -> None:
        """Write `part`, as `take` returned it, back into `weight` in place."""
        if self.order:
            for run, rows in zip(self.order, part.split([length for _, length in self.order]), strict=True):
                weight.narrow(0, *run).copy_(rows)
            return
        view = self._view(weight)
        if part.data_ptr() != view.data_ptr():  # else `part` is the view itself, changed in place
            view.copy_(_swapped(part) if self.swap_halves else part)

    def laid(self, part: torch.Tensor) -> torch.Tensor:
        """Return rows of the adapter as they lie in the weight from this target's first row on, zero between them."""
        if not (self.order or self.swap_halves):
            return part
        runs, first = self.runs, self.start or 0
        result = part.new_zeros((max(map(sum, runs)) - first, *part.shape[1:]))
        for (start, length), rows in zip(runs, part.split([length for _, length in runs]), strict=True):
            result.narrow(0, start - first, length).copy_(rows)
        return result

    def _view(self, weight: torch.Tensor) -> torch.Tensor:
        view = weight if self.start is None else weight.narrow(0, self.start, self.shape[0])
        return view.t() if self.transposed else view


def overlap(place: Place, held: Place, key: str, shape: Shape, role: Role) -> tuple[Target, ...]:
    """Return the targets of the rows that a name's `place` and a tensor, at `held`, have in common; mostly one."""
    if place.order or held.order:
        return _reordered(place, held, Target(key, shape, role)) if place.transposed == held.transposed else ()
    swap, transposed = place.swap_halves != held.swap_halves, place.transposed != held.transposed
    if place[1:4] == held[1:4]:
        if transposed and len(shape) != 2:
            return ()
        return (Target(key, shape[::-1] if transposed else shape, role, None, swap, transposed),)
    wanted, there = _run(place, held, shape), _run(held, held, shape)
    if wanted is None or there is None:
        return ()
    begin, end = max(wanted[0], there[0]), min(wanted[1], there[1])
    is_part, is_slice = (begin, end) != wanted, (begin, end) != there
    if begin >= end or transposed or (swap and is_part) or (held.swap_halves and is_slice):
        return ()
    rows = (begin - wanted[0], wanted[1] - wanted[0]) if is_part else None
    start = begin - there[0] if is_slice else None
    return (Target(key, (end - begin, *shape[1:]), role, start, swap, False, rows),)


def whole_shape(held: Place, shape: Shape) -> Shape:
    """Return the shape of the module of which a tensor of `shape` is the part `held`."""
    if held.transposed:
        shape = shape[::-1]
    rows = held.share(shape[0]) if shape else None
    return shape if rows is None else (rows, *shape[1:])


def _run(place: Place, held: Place, shape: Shape) -> tuple[int, int] | None:
    """Return the rows of `place` in the whole module, of which a tensor of `shape` is the part `held`."""
    rows = held.share(shape[0]) if shape else None
    if rows is None or rows * place.begin % place.of or rows * place.end % place.of:
        return None
    return rows * place.begin // place.of, rows * place.end // place.of


def _reordered(place: Place, held: Place, tensor: Target) -> tuple[Target, ...]:
    """Return the targets where rows lie in another order: one for each run of the adapter's rows that is here."""
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
    start = None if runs == ((0, tensor.shape[0]),) else min(runs)[0]
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


def _swapped(part: torch.Tensor) -> torch.Tensor:
    half = part.shape[0] // 2
    return torch.cat((part[half:], part[:half]))
