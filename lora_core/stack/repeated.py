"""Modules of one file that address the same weight under two names: the same change counts once.

Files of some converters hold the attention fused and split, or a module with and without a prefix.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from ..errors import AdapterError
from ..lazytorch import torch
from ..naming.places import Run
from ..naming.targets import Target
from ..reading.adapterspec import AdapterSpec
from ..reading.lorafile import LoraFile
from .apply import Placed, apply_stack
from .placing import placed_adapter

_SAME = 5e-3  # of the change: factors may have been rounded to bf16 before or after they were fused

Place = tuple[AdapterSpec, Target]


def without_repeats(lora: LoraFile, places: Sequence[Place]) -> tuple[list[Place], list[str]]:
    """Return the places, each weight's rows once, and the modules that were left out because another has their change.

    Raises AdapterError for two modules that change the same rows differently.
    """
    by_weight: dict[tuple[str, int], dict[str, list[Place]]] = {}
    for spec, target in places:
        by_weight.setdefault((target.key, target.file), {}).setdefault(spec.module, []).append((spec, target))
    repeats = {weight: set(_repeats(lora, found)) for weight, found in by_weight.items() if len(found) > 1}
    kept: list[Place] = []
    left_out: list[str] = []
    for spec, target in places:
        if spec.module in repeats.get((target.key, target.file), ()):
            left_out.append(spec.module)
        else:
            kept.append((spec, target))
    return kept, list(dict.fromkeys(left_out))


def _repeats(lora: LoraFile, by_module: dict[str, list[Place]]) -> Iterable[str]:
    """Yield the modules whose rows of the weight others change already, those with most rows first."""
    if _are_apart(target for places in by_module.values() for _, target in places):
        return
    kept: dict[str, set[int]] = {}
    for module in sorted(by_module, key=lambda name: -len(_rows(by_module[name]))):
        rows = _rows(by_module[module])
        others = [other for other, covered in kept.items() if covered & rows]
        for other in others:
            if not _same(lora, by_module[module], by_module[other], sorted(rows & kept[other])):
                raise AdapterError(
                    f"{lora.name}: {other} and {module} are two names of the same rows of "
                    f"{by_module[module][0][1].key}, with different changes; remove one of them from the file."
                )
        if others and rows <= set().union(*(kept[other] for other in others)):
            yield module
        else:
            kept[module] = rows


def _rows(places: Iterable[Place]) -> set[int]:
    """Return the rows of the weight that are changed; all of them if the adapter lies on its side."""
    found: set[int] = set()
    for _, target in places:
        for start, length in _runs(target):
            found.update(range(start, start + length))
    return found


def _are_apart(targets: Iterable[Target]) -> bool:
    """Tell whether no two runs of rows meet, as in nearly every file: told without counting rows."""
    runs = sorted(run for target in targets for run in _runs(target))
    return all(start + length <= after for (start, length), (after, _) in pairwise(runs))


def _runs(target: Target) -> tuple[Run, ...]:
    return ((0, target.shape[-1]),) if target.transposed else target.runs


def _same(lora: LoraFile, places: Sequence[Place], others: Sequence[Place], rows: list[int]) -> bool:
    """Tell whether two modules make the same change of these rows; of what depends on the weight, on one at random."""
    weight = _weight([*places, *others])
    first, second = ((_changed(lora, given, weight) - weight)[rows] for given in (places, others))
    return bool((first - second).norm() <= _SAME * torch.maximum(first.norm(), second.norm()))


def _weight(places: Sequence[Place]) -> torch.Tensor:
    target = places[0][1]
    shape = target.shape[::-1] if target.transposed else target.shape
    rows = 1 + max(_rows(places))
    return torch.randn((rows, *shape[1:]), generator=torch.Generator().manual_seed(0))


def _changed(lora: LoraFile, places: Sequence[Place], weight: torch.Tensor) -> torch.Tensor:
    stack = [Placed(placed_adapter(lora, spec, target), target, 1.0) for spec, target in places]
    return apply_stack(weight, stack)
