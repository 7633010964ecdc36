"""What trainers call query, key and value of a model that nobody described: apart where it fuses them, and the reverse.

Equal parts in the order query, key, value are the only reading: a name of one part means a third of the fused rows. A
LoRA whose shape is no third is for another layout, and nothing is made of the name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ..arch.base import Shape
from .places import Place

FUSED = ("to_qkv", "qkv_proj", "qkv")
APART = ("to_#", "#_proj", "#")

_FUSED = re.compile(r"(|.*?_)(" + "|".join(FUSED) + r")(|_.*)")
_QUERY = re.compile(r"(|.*?_)(" + "|".join(name.replace("#", "q") for name in APART) + r")(|_.*)")


def common_fusions(weights: Mapping[str, Shape]) -> Iterator[tuple[str, tuple[Place, ...]]]:
    """Yield (name, places one after the other) for the modules of a model, given with their weights' shapes."""
    for module, shape in weights.items():
        at, dot, last = module.rpartition(".")
        if (found := _FUSED.fullmatch(last)) and shape and shape[0] % 3 == 0:
            yield from _thirds(module, [_pieces(at + dot, found, name) for name in APART], weights)
        elif found := _QUERY.fullmatch(last):
            pieces = _pieces(at + dot, found, next(name for name in APART if name.replace("#", "q") == found[2]))
            names = [f"{at}{dot}{found[1]}{name}{found[3]}" for name in FUSED]
            if {weights.get(piece) for piece in pieces} == {shape} and not any(name in weights for name in names):
                yield from ((name, tuple(map(Place, pieces))) for name in names)


def _thirds(
    module: str, several: list[tuple[str, ...]], weights: Mapping[str, Shape]
) -> Iterator[tuple[str, tuple[Place]]]:
    if not any(piece in weights for pieces in several for piece in pieces):
        for pieces in several:
            yield from ((piece, (Place(module).piece(part, part + 1, 3),)) for part, piece in enumerate(pieces))


def _pieces(at: str, found: re.Match[str], name: str) -> tuple[str, ...]:
    return tuple(f"{at}{found[1]}{name.replace('#', part)}{found[3]}" for part in "qkv")
