"""What trainers call query, key and value of a model that nobody described: apart where it fuses them, and the reverse.

Equal parts in the order query, key, value are the only reading: a name of one part means a third of the fused rows. A
LoRA whose shape is no third is for another layout, and nothing is made of the name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ..arch.base import Shape
from .places import Place

FUSED = ("to_qkv", "qkv_proj", "qkv")
APART = ("to_#", "#_proj", "#")

_QUERIES = {name.replace("#", "q"): name for name in APART}


def common_fusions(weights: Mapping[str, Shape]) -> Iterator[tuple[str, tuple[Place, ...]]]:
    """Yield (name, places one after the other) for the modules of a model, given with their weights' shapes."""
    for module, shape in weights.items():
        at, dot, last = module.rpartition(".")
        if (found := _spelled(last, FUSED)) and shape and shape[0] % 3 == 0:
            yield from _thirds(module, [_pieces(at + dot, found, name) for name in APART], weights)
        elif found := _spelled(last, tuple(_QUERIES)):
            pieces = _pieces(at + dot, found, _QUERIES[found.name])
            names = [f"{at}{dot}{found.before}{name}{found.behind}" for name in FUSED]
            if {weights.get(piece) for piece in pieces} == {shape} and not any(name in weights for name in names):
                yield from ((name, tuple(map(Place, pieces))) for name in names)


def _thirds(
    module: str, several: list[tuple[str, ...]], weights: Mapping[str, Shape]
) -> Iterator[tuple[str, tuple[Place]]]:
    if not any(piece in weights for pieces in several for piece in pieces):
        for pieces in several:
            yield from ((piece, (Place(module).piece(part, part + 1, 3),)) for part, piece in enumerate(pieces))


class _Spelled(NamedTuple):
    before: str
    name: str
    behind: str


def _spelled(last: str, names: Sequence[str]) -> _Spelled | None:
    """Return where one of the names stands in the last part of a module's name, between `_` or its ends."""
    start = 0
    while True:
        for name in names:
            end = start + len(name)
            if last.startswith(name, start) and last[end : end + 1] in ("", "_"):
                return _Spelled(last[:start], name, last[end:])
        start = last.find("_", start) + 1
        if not start:
            return None


def _pieces(at: str, found: _Spelled, name: str) -> tuple[str, ...]:
    return tuple(f"{at}{found.before}{name.replace('#', part)}{found.behind}" for part in "qkv")
