"""Shapes of parts, of changes and of weights, and which of them fit each other."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..errors import AdapterError

Shape = tuple[int, ...]  # of a change: 0 stands for a size that the parts do not tell
Shapes = Mapping[str, Shape]  # field of a part -> its shape


def same_but_ones(shape: Shape, other: Shape) -> bool:
    """Tell whether two shapes differ only in trailing ones: a 1x1 convolution is a linear layer."""
    length = max(len(shape), len(other))
    return shape + (1,) * (length - len(shape)) == other + (1,) * (length - len(other))


def fits_shape(shape: Shape, weight: Shape) -> bool:
    """Tell whether a change of this shape is one of `weight`: a matrix may hold a convolution's [out, in·kernel]."""
    if same_but_ones(shape, weight):
        return True
    return len(shape) == 2 and len(weight) > 2 and shape == (weight[0], math.prod(weight[1:]))


def required(shapes: Shapes, *names: str) -> tuple[Shape, ...]:
    """Return the shapes of the parts `names`; raises AdapterError if one is missing or holds no numbers."""
    missing = [name for name in names if name not in shapes]
    if missing:
        present = " and ".join(name for name in names if name in shapes)
        raise AdapterError(f"has {present or 'no part'} without {' and '.join(missing)}")
    empty = [f"{name} {list(shapes[name])}" for name in names if 0 in shapes[name]]
    if empty:
        raise AdapterError(f"holds no numbers: {', '.join(empty)}")
    return tuple(shapes[name] for name in names)
