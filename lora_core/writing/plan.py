"""Which adapters become which names of another dialect: decided from names and shapes, without tensor data.

Every name stands for rows of tensors of one layout, the architecture's own. An adapter that covers exactly the rows of
a written name is renamed; any other is cut, or joined with those that cover the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from ..arch.base import Shape
from ..naming.component import Component
from ..naming.dialects import Writing
from ..naming.keymap import KeyMap
from ..naming.targets import Target
from ..parallel.asking import each
from ..reading.adapterspec import AdapterSpec
from ..reading.lorafile import LoraFile
from ..reading.placefinder import PlaceFinder
from ..report import LoraReport
from ..stack.repeated import without_repeats
from .names import written


@dataclass(frozen=True, slots=True)
class Run:
    """Rows of a name, and the rows of a tensor of the own layout that they are."""

    row: int
    key: str
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Slot:
    """A name to write."""

    name: str
    module: str  # without the dialect's prefix, dotted
    param: str
    component: Component
    shape: Shape
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """What of an adapter goes to a slot: (first row of the adapter, number, first row of the slot) of each run."""

    spec: AdapterSpec
    target: Target  # the first that the adapter has
    runs: tuple[tuple[int, int, int], ...]

    @property
    def shape(self) -> Shape:
        """The shape of all that the adapter changes."""
        return self.target.adapter_shape

    @property
    def total(self) -> int:
        return self.shape[0] if self.shape else 1


@dataclass(frozen=True, slots=True)
class Job:
    """A name to write, and the adapters that it is made of."""

    slot: Slot
    pieces: tuple[Piece, ...]

    @property
    def is_rename(self) -> bool:
        return len(self.pieces) == 1 and self.pieces[0].spec.is_portable and _is_whole(self.pieces[0], self.slot)


@dataclass(slots=True)
class Plan:
    """All that becomes of a file."""

    jobs: list[Job] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)  # modules that the model does not have
    mismatched: list[dict[str, object]] = field(default_factory=list)  # and those of another shape
    kept: list[AdapterSpec] = field(default_factory=list)  # adapters that keep their names
    repeated: list[str] = field(default_factory=list)  # modules with the change that another name of the weight has
    read_as: dict[str, list[str]] = field(default_factory=dict)  # how names had to be changed to fit -> modules

    def tell(self, report: LoraReport) -> list[str]:
        """Fill in what has no place, and return the names of all that is left out."""
        report.unmatched += self.unmatched
        report.mismatched, report.repeated, report.read_as = self.mismatched, self.repeated, self.read_as
        unsupported = [name for names in report.unsupported.values() for name in names]
        missing = [*report.unmatched, *(str(item["name"]) for item in self.mismatched), *unsupported]
        missing = sorted(dict.fromkeys(missing))
        report.modules_matched = report.modules_total - len(missing)
        return missing


def plan(lora: LoraFile, keymap: KeyMap, writing: Writing, diffusers: Mapping[str, frozenset[str]]) -> Plan:
    """Return what becomes of the adapters; `diffusers` has names there by the id of an architecture."""
    slots = _slots(keymap, writing, diffusers)
    finder = PlaceFinder(lora, keymap)
    found_targets = [(spec, finder.find(spec)) for spec in each(lora.adapters)]
    fitting = [(spec, target) for spec, targets in found_targets if not _problem(spec, targets) for target in targets]
    places, repeated = without_repeats(lora, fitting)
    once = {id(spec) for spec, _ in places}
    result = Plan(repeated=repeated, read_as=finder.read_as)
    found: dict[str, tuple[Slot, list[Piece]]] = {}
    unmatched: dict[str, None] = {}
    for spec, targets in each(found_targets):
        if not targets and spec.optional:
            continue
        problem = _problem(spec, targets)
        if problem:
            result.kept.append(spec)
            unmatched |= {} if targets else {spec.module: None}
            result.mismatched += [problem] if targets else []
            continue
        if id(spec) not in once:
            continue
        runs = [run for target in targets for run in _runs(target)]
        for slot in _slots_of(runs, slots):
            piece = Piece(spec, targets[0], _shared(runs, slot.runs))
            found.setdefault(f"{slot.name} {slot.param}", (slot, []))[1].append(piece)
    result.unmatched = list(unmatched)
    result.jobs = [job for slot, pieces in found.values() for job in _jobs(slot, pieces)]
    return result


def _slots(keymap: KeyMap, writing: Writing, diffusers: Mapping[str, frozenset[str]]) -> dict[str, list[Slot]]:
    """Return the names of each tensor."""
    slots: dict[str, list[Slot]] = {}
    for component in keymap.components:
        for full, name in written(component, writing, diffusers.get(component.arch.id, frozenset())):
            slot = Slot(full, name.module, name.param, component, name.target.shape, tuple(_runs(name.target)))
            slots.setdefault(_tensor_of(name.target), []).append(slot)
    return slots


def _problem(spec: AdapterSpec, targets: Sequence[Target]) -> dict[str, object] | None:
    if not targets:
        return {"name": spec.module}
    if spec.fits(targets[0].adapter_shape):
        return None
    return {"name": spec.module, "expected": list(targets[0].adapter_shape), "found": list(spec.delta_shape())}


def _runs(target: Target) -> list[Run]:
    ends = accumulate((length for _, length in target.runs), initial=target.rows[0] if target.rows else 0)
    return [
        Run(row, _tensor_of(target), start, length) for row, (start, length) in zip(ends, target.runs, strict=False)
    ]


def _tensor_of(target: Target) -> str:
    """Return the tensor whose rows are meant: one on its side has others."""
    return f"{target.key} transposed" if target.transposed else target.key


def _slots_of(runs: Sequence[Run], slots: Mapping[str, Sequence[Slot]]) -> list[Slot]:
    keys = dict.fromkeys(run.key for run in runs)
    return [slot for key in keys for slot in slots.get(key, ()) if _shared(runs, slot.runs)]


def _shared(adapter: Sequence[Run], slot: Sequence[Run]) -> tuple[tuple[int, int, int], ...]:
    """Return (row of the adapter, number, row of the slot) of what both cover, in the order of the slot's rows."""
    found: list[tuple[int, int, int]] = []
    for there in slot:
        for here in adapter:
            begin, end = max(here.start, there.start), min(here.start + here.length, there.start + there.length)
            if here.key == there.key and begin < end:
                found.append((here.row + begin - here.start, end - begin, there.row + begin - there.start))
    found.sort(key=lambda run: run[2])
    joined: list[tuple[int, int, int]] = []
    for first, number, row in found:
        last = joined[-1] if joined else (0, 0, 0)
        if joined and (last[0] + last[1], last[2] + last[1]) == (first, row):
            joined[-1] = (last[0], last[1] + number, last[2])
        else:
            joined.append((first, number, row))
    return tuple(joined)


def _is_whole(piece: Piece, slot: Slot) -> bool:
    """Tell whether the adapter and the slot are the same rows."""
    rows = slot.shape[0] if slot.shape else 1
    return piece.runs == ((0, rows, 0),) and piece.total == rows


def _jobs(slot: Slot, pieces: Sequence[Piece]) -> list[Job]:
    """Return one job, or one for each of several kinds that lie beside each other in a module."""
    kinds = {piece.spec.kind for piece in pieces}
    if len(kinds) == len(pieces) > 1 and all(_is_whole(piece, slot) for piece in pieces):
        return [Job(slot, (piece,)) for piece in pieces]
    return [Job(slot, tuple(pieces))]
