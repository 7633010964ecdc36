"""A layer of a LoRA that is being made, and what its rank means for the file and the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .arch.base import Shape
from .files.tensorfile import dtype_name
from .files.tensorwriter import PlannedTensor
from .lazytorch import torch
from .ranks import Spectrum

CURVE = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)  # ranks at which the report tells the energy


@dataclass(frozen=True, slots=True)
class Layer:
    """A name to write, and what is known of it besides its numbers."""

    name: str  # as it is written, dialect prefix included
    module: str
    block: str
    shape: Shape  # of the weight
    suffixes: tuple[str, str]  # of up and down
    has_alpha: bool = True
    weight_norm: float | None = None  # |W|_F
    was: str = ""  # the kinds that it was made of


@dataclass(frozen=True, slots=True)
class Ranked:
    """A layer and its rank, above 0."""

    layer: Layer
    rank: int


def described(layer: Layer, spectrum: Spectrum, rank: int, excess: float) -> dict[str, Any]:
    """Return what the report says of a layer; `curve` is the energy at a few ranks."""
    sums = spectrum.values.square().cumsum(0) / (spectrum.total or 1.0)
    return {
        "name": layer.name,
        "block": layer.block,
        "module": layer.module,
        "rank": rank,
        "energy": min(1.0, float(sums[rank - 1])) if rank else 0.0,
        "norm": spectrum.total**0.5,
        "curve": [[at, min(1.0, float(sums[at - 1]))] for at in sorted({*CURVE, len(sums)}) if 0 < at <= len(sums)],
        "excess": excess,
        **({"was": layer.was} if layer.was else {}),
    }


def planned(layer: Layer, rank: int, dtype: torch.dtype | None) -> list[PlannedTensor]:
    """Return the tensors of a layer at a rank above 0."""
    name = dtype_name(dtype or torch.float32)
    shapes = zip(layer.suffixes, factor_shapes(layer, rank), strict=True)
    alpha = [PlannedTensor(layer.name + ".alpha", "F32", ())] if layer.has_alpha else []
    return [*(PlannedTensor(layer.name + suffix, name, shape) for suffix, shape in shapes), *alpha]


def factor_shapes(layer: Layer, rank: int) -> tuple[Shape, Shape]:
    """Return the shapes of up and down, in the dimensions of the weight."""
    ones = (1,) * (len(layer.shape) - 2)
    return (layer.shape[0], rank, *ones), (rank, *layer.shape[1:])


def matrix_of(shape: Shape) -> tuple[int, int]:
    """Return (out, in·kernel)."""
    rest = 1
    for size in shape[1:]:
        rest *= size
    return shape[0], rest
