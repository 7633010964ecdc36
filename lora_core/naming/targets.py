"""Targets: where in a checkpoint an adapter goes, and which of its rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..arch.base import Shape
from ..lazytorch import torch
from .renames import Place

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
    file: int = field(default=0, compare=False)  # which of several model files holds the key

    @property
    def adapter_shape(self) -> Shape:
        """The shape of the whole change of the adapter that this target, or this target among others, belongs to."""
        return self.shape if self.rows is None else (self.rows[1], *self.shape[1:])

    def take(self, weight: torch.Tensor) -> torch.Tensor:
        """Return this target's part of `weight` as the adapter sees it: a view, or a copy where halves are swapped."""
        view = self._view(weight)
        return _swapped(view) if self.swap_halves else view

    def put(self, weight: torch.Tensor, part: torch.Tensor) -> None:
        """Write `part`, as `take` returned it, back into `weight` in place."""
        view = self._view(weight)
        if part.data_ptr() != view.data_ptr():  # else `part` is the view itself, changed in place
            view.copy_(_swapped(part) if self.swap_halves else part)

    def _view(self, weight: torch.Tensor) -> torch.Tensor:
        view = weight if self.start is None else weight.narrow(0, self.start, self.shape[0])
        return view.t() if self.transposed else view


def overlap(place: Place, held: Place, key: str, shape: Shape, role: Role) -> Target | None:
    """Return the target of the rows that a name's `place` and a tensor, at `held`, have in common."""
    swap, transposed = place.swap_halves != held.swap_halves, place.transposed != held.transposed
    if place[1:4] == held[1:4]:
        if transposed and len(shape) != 2:
            return None
        return Target(key, shape[::-1] if transposed else shape, role, None, swap, transposed)
    wanted, there = _run(place, held, shape), _run(held, held, shape)
    if wanted is None or there is None:
        return None
    begin, end = max(wanted[0], there[0]), min(wanted[1], there[1])
    is_part, is_slice = (begin, end) != wanted, (begin, end) != there
    if begin >= end or transposed or (swap and is_part) or (held.swap_halves and is_slice):
        return None
    rows = (begin - wanted[0], wanted[1] - wanted[0]) if is_part else None
    start = begin - there[0] if is_slice else None
    return Target(key, (end - begin, *shape[1:]), role, start, swap, False, rows)


def _run(place: Place, held: Place, shape: Shape) -> tuple[int, int] | None:
    """Return the rows of `place` in the whole module, of which a tensor of `shape` is the part `held`."""
    rows = _rows(held, shape)
    if rows is None or rows * place.begin % place.of or rows * place.end % place.of:
        return None
    return rows * place.begin // place.of, rows * place.end // place.of


def _rows(held: Place, shape: Shape) -> int | None:
    """Return how many rows the whole module has of which a tensor of `shape` is the part `held`."""
    if not shape or shape[0] * held.of % (held.end - held.begin):
        return None
    return shape[0] * held.of // (held.end - held.begin)


def whole_shape(held: Place, shape: Shape) -> Shape:
    """Return the shape of the module of which a tensor of `shape` is the part `held`."""
    if held.transposed:
        shape = shape[::-1]
    rows = _rows(held, shape)
    return shape if rows is None else (rows, *shape[1:])


def _swapped(part: torch.Tensor) -> torch.Tensor:
    half = part.shape[0] // 2
    return torch.cat((part[half:], part[:half]))
