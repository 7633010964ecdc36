"""What an adapter may take, told from shapes before anything is read or allocated.

A few kilobytes of factors can ask for any amount of memory. `room` of a kind says how many numbers it makes at a time;
that is bounded by the weight, by the adapter's own tensors, and by what the largest models' layers take.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import AdapterError
from .shapes import Shape, Shapes
from .stored import StoredAdapter

_FEW = 2**22  # numbers that anything may take
_OF_WEIGHT, _OF_PARTS = 8, 16  # times the weight's numbers and the adapter's own
# Where no model is given, a shape is what the adapter says it is. Flux.2 has weights of 340 million numbers, embeddings
# of language models more, with factors of thousands of numbers for each of their ranks.
_LARGEST, _OF_PARTS_ALONE = 2**29, 512
_GROWTH = 64  # times that a weight may become: control LoRAs widen the first layer to three times its inputs


def check_room(where: str, kind: type[StoredAdapter], shapes: Shapes, weight: Shape, **settings: Any) -> None:
    """Raise AdapterError if an adapter of these parts takes far more memory than a weight of this shape."""
    own = _count(shapes.values())
    most = _FEW + _OF_WEIGHT * math.prod(weight) + _OF_PARTS * own
    _refuse(
        where,
        kind.room(shapes, weight, **settings),
        most,
        f"for a weight of {list(weight)} and {own} numbers of its own",
    )


def check_room_alone(where: str, kind: type[StoredAdapter], shapes: Shapes, **settings: Any) -> None:
    """Raise AdapterError as `check_room` does, for a weight of which the adapter alone tells the shape."""
    weight = kind.delta_shape(shapes)
    if 0 in weight:  # told by the weight, so there is one whenever the change is made
        return
    check_room(where, kind, shapes, weight, **settings)
    _refuse_alone(where, kind.room(shapes, weight, **settings), shapes.values())


def check_whole(where: str, shape: Shape, *parts: Sequence[int]) -> None:
    """Raise AdapterError if a matrix of this shape is far too large to be made of parts of these shapes."""
    _refuse_alone(where, math.prod(shape), parts)


def check_growth(where: str, weight: Shape, shape: Shape) -> None:
    """Raise AdapterError if an adapter makes a weight far larger than it is."""
    most = _FEW + _GROWTH * math.prod(weight)
    if math.prod(shape) > most:
        raise AdapterError(
            f"{where}: makes a weight of {list(weight)} larger, to {list(shape)}, expected at most {most} numbers; "
            "the file is damaged."
        )


def _refuse_alone(where: str, numbers: int, parts: Iterable[Sequence[int]]) -> None:
    own = _count(parts)
    _refuse(where, numbers, _LARGEST + _OF_PARTS_ALONE * own, f"for {own} numbers of its own")


def _refuse(where: str, numbers: int, most: int, beside: str) -> None:
    if numbers > most:
        raise AdapterError(
            f"{where}: its change takes {numbers:.2g} numbers at a time, expected at most {most:.2g} {beside}; its "
            "shapes are none that a training makes."
        )


def _count(shapes: Iterable[Sequence[int]]) -> int:
    return sum(map(math.prod, shapes))
