"""How the LoRAs of a stack agree: where they reinforce or cancel each other, block by block, from their factors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from ...adapters.cost import check_whole
from ...algebra.change import Change
from ...algebra.factored import Factors, inner_products, overlap_of, spaces_of
from ...lazytorch import torch
from ...naming.blocks import in_order
from ...naming.targets import Target
from ...parallel.pipeline import Worker, run_jobs
from .changes import UnmeasuredError, adapter_change
from .reference import AdapterLayer, Reference

SAME = 0.9999  # a cosine above it is one change under two names: rounding to fp16 alone leaves 0.9999999

Places = Mapping[str, Mapping[int, Sequence[tuple[AdapterLayer, Target | None]]]]  # tensor -> LoRA -> what changes it


@dataclass(slots=True)
class Agreement:
    """Sums over tensors: of one block, or of all."""

    products: torch.Tensor  # (k, k) fp64: sum <w_i dW_i, w_j dW_j> of k LoRAs at their strengths
    tensors: int = 0
    shared: dict[tuple[int, int], int] = field(default_factory=dict)  # pair -> tensors that both change
    # pair -> sum |w_i dW_i|·|w_j dW_j| times 1, columns above chance, rows above chance
    overlaps: dict[tuple[int, int], tuple[float, float, float]] = field(default_factory=dict)

    def cosine(self, first: int, second: int) -> float | None:
        """Return <dW_i, dW_j> / (|dW_i|·|dW_j|), at the strengths' signs; None if one changes nothing here."""
        sizes = float(self.products[first, first] * self.products[second, second]) ** 0.5
        return max(-1.0, min(1.0, float(self.products[first, second]) / sizes)) if sizes > 0 else None

    @property
    def interference(self) -> float | None:
        """|sum w_i dW_i|² / sum |w_i dW_i|²; None if fewer than two LoRAs change anything here."""
        apart = self.products.diagonal()
        if int((apart > 0).sum()) < 2:
            return None
        return max(0.0, float(self.products.sum() / apart.sum()))

    def add(self, other: Agreement) -> None:
        self.products += other.products
        self.tensors += other.tensors
        for pair, count in other.shared.items():
            self.shared[pair] = self.shared.get(pair, 0) + count
        for pair, sums in other.overlaps.items():
            before = self.overlaps.get(pair, (0.0, 0.0, 0.0))
            self.overlaps[pair] = (before[0] + sums[0], before[1] + sums[1], before[2] + sums[2])

    def described(self, first: int, second: int) -> dict[str, Any]:
        """Return what a report says of two LoRAs here."""
        weight, columns, rows = self.overlaps.get((first, second), (0.0, 0.0, 0.0))
        return {
            "cosine": self.cosine(first, second),
            "column_overlap": columns / weight if weight else None,
            "row_overlap": rows / weight if weight else None,
            "tensors": self.shared.get((first, second), 0),
        }


def places_of(files: Sequence[Sequence[AdapterLayer]]) -> Places:
    """Return which layers of which file change a tensor; what has no place is called by its own name."""
    places: dict[str, dict[int, list[tuple[AdapterLayer, Target | None]]]] = {}
    for number, layers in enumerate(files):
        for layer in layers:
            for target in layer.targets or (None,):
                key = target.key if target else layer.free_name
                places.setdefault(key, {}).setdefault(number, []).append((layer, target))
    return places


def agreements(
    places: Places, count: int, reference: Reference, on_tensors: Callable[[int], None]
) -> dict[str, Agreement]:
    """Return the agreement of `count` files in each block, in the order of the model.

    `on_tensors` gets how many were compared, and may raise to cancel.
    """

    def job_of(key: str) -> Callable[[Worker], Agreement]:
        return lambda worker: _counted(_agreement(_changes(key, places[key], reference), count), worker)

    blocks: dict[str, Agreement] = {}
    for files, found in zip(places.values(), run_jobs([job_of(key) for key in places], on_tensors), strict=True):
        block = next(iter(files.values()))[0][0].block
        blocks.setdefault(block, _empty(count)).add(found)
    return {name: blocks[name] for name in in_order(blocks)}


def total_of(blocks: Mapping[str, Agreement], count: int) -> Agreement:
    total = _empty(count)
    for block in blocks.values():
        total.add(block)
    return total


def pairs_of(blocks: Mapping[str, Agreement], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return what a report says of every two files: of all that they change, and block by block."""
    total = total_of(blocks, len(names))
    return [
        {
            **{"first": names[one], "second": names[other], "numbers": [one, other]},
            **total.described(one, other),
            "blocks": [
                {"block": name, **block.described(one, other)}
                for name, block in blocks.items()
                if (one, other) in block.shared
            ],
        }
        for one, other in combinations(range(len(names)), 2)
    ]


def twins(pairs: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a warning for every two files that make the same change."""
    for pair in pairs:
        cosine = pair["cosine"]
        if cosine is not None and abs(cosine) > SAME:
            same = "make the same change" if cosine > 0 else "make the same change at opposite strengths"
            yield f"{pair['first']} and {pair['second']} {same} (cosine {cosine:.4f}): is it one LoRA, given twice?"


def _changes(
    key: str, files: Mapping[int, Sequence[tuple[AdapterLayer, Target | None]]], reference: Reference
) -> dict[int, Change]:
    """Return what each file changes of one tensor at its strength; what can't be measured is left out."""
    changes: dict[int, Change] = {}
    for number, layers in files.items():
        for layer, target in layers:
            try:
                change = adapter_change(layer, reference.weight(layer))
            except UnmeasuredError:  # `analysed` tells the layer's problem
                continue
            change = change.placed(target, reference.shapes[key]) if target else change
            change = change.times(layer.strength)
            changes[number] = changes[number].plus(change) if number in changes else change
    sizes = [change.size for change in changes.values()]
    if len(set(sizes)) > 1:
        rows, columns = max(size[0] for size in sizes), max(size[1] for size in sizes)
        for number, change in changes.items():
            name = f"{files[number][0][0].lora.name}: {files[number][0][0].name}"
            check_whole(name, (change.parts[-1].shape[0], columns), *(part.shape for part in change.parts))
        return {number: change.padded(rows, columns) for number, change in changes.items()}
    return changes


def _counted(agreement: Agreement, worker: Worker) -> Agreement:
    worker.wrote(1)
    return agreement


def _agreement(changes: Mapping[int, Change], count: int) -> Agreement:
    found = _empty(count)
    numbers = sorted(changes)
    found.tensors = 1
    factors: dict[int, Factors] = {number: change.factors for number, change in changes.items() if change.factors}
    if len(factors) == len(changes):
        small = (
            inner_products([factors[number] for number in numbers])
            if numbers
            else torch.zeros(0, 0, dtype=torch.float64)
        )
    else:
        products = [[changes[one].product(changes[two]) for two in numbers] for one in numbers]
        small = torch.tensor(products, dtype=torch.float64)
    place = torch.tensor(numbers, dtype=torch.long)
    found.products[place[:, None], place] = small
    norms = found.products.diagonal().clamp_min(0).sqrt()
    living = [number for number in numbers if norms[number] > 0]
    found.shared = dict.fromkeys(combinations(living, 2), 1)
    matrices = [number for number in living if number in factors and min(changes[number].size) > 1]
    spaces = {number: spaces_of(factors[number]) for number in matrices} if len(matrices) > 1 else {}
    for pair in combinations(spaces, 2):
        overlap = overlap_of(spaces[pair[0]], spaces[pair[1]])
        weight = float(norms[pair[0]] * norms[pair[1]])
        found.overlaps[pair] = (
            weight,
            weight * overlap.columns_above_chance,
            weight * overlap.rows_above_chance,
        )
    return found


def _empty(count: int) -> Agreement:
    return Agreement(torch.zeros(count, count, dtype=torch.float64))
