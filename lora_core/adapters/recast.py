"""Adapters cut to rows, and made plain LoRA: exactly where the kind allows, else fitted, with the error.

Everything here is an equation between deltas: the delta of the result is made of the delta of what it comes from.
"""

from __future__ import annotations

from ..algebra.svd import Svd, svd_of_dense, svd_of_product
from ..errors import AdapterError
from ..lazytorch import torch
from .base import Adapter, Rows
from .lora import LoRA
from .rows import RowCut
from .shapes import Shape

NEGLIGIBLE = 1e-12  # share of |delta|² that an exact rank may leave out: fp32 does not hold more


def take_rows(adapter: Adapter, runs: Rows, total: int) -> Adapter:
    """Return the adapter of the given runs of `total` rows, in this order.

    Raises AdapterError for a kind in which rows depend on each other, or of which any rows are not one of the kind.
    """
    if list(runs) == [(0, total)]:
        return adapter
    cuts = [adapter.cut(first, number, total) for first, number in runs]
    if any(isinstance(cut, RowCut) for cut in cuts):
        raise AdapterError(f"{adapter.kind}: some of its rows are not one {adapter.kind}")
    return cuts[0] if len(cuts) == 1 else cuts[0].stacked(cuts)


def as_lora(adapter: Adapter, weight: torch.Tensor, rank: int = 0) -> tuple[LoRA, float]:
    """Return (a LoRA with the delta that `adapter` has on `weight`, its relative error).

    `rank` is the highest that the LoRA may have; 0 for as high as it takes. For additive adapters the shape of
    `weight` is enough.
    """
    exact, found = adapter.low_rank(), None
    if exact is not None:
        up, down = exact
        most = min(up.shape[0], down.shape[1])  # more than any matrix of this shape needs
        if up.shape[1] <= (rank or (up.shape[1] if isinstance(adapter, LoRA) else most)):
            return _lora(up, down, tuple(weight.shape)), 0.0
        found = svd_of_product(up, down, rank) if rank and 2 * up.shape[1] <= most else None
    found = found or _svd_of_delta(adapter, weight, rank)
    up, down = found.factors(len(found.right))
    if not up.shape[1]:  # a change of zeros
        up, down = up.new_zeros(len(up), 1), down.new_zeros(1, down.shape[1])
    return _lora(up, down, tuple(weight.shape)), max(0.0, 1.0 - found.energy(len(found.right))) ** 0.5


def is_lora(adapter: Adapter, rank: int = 0) -> bool:
    """Tell whether an adapter is plain LoRA, of no higher rank than `rank` if that is not 0."""
    return isinstance(adapter, LoRA) and (not rank or adapter.down.shape[0] <= rank)


def cut_lora(adapter: Adapter, rank: int) -> tuple[Adapter, float]:
    """Return a plain LoRA at no more than `rank`, and the error of that; any other adapter as it is."""
    if not isinstance(adapter, LoRA) or is_lora(adapter, rank):
        return adapter, 0.0
    return as_lora(adapter, unread((adapter.up.shape[0], *adapter.down.shape[1:])), rank)


def unread(shape: Shape) -> torch.Tensor:
    """Return a weight of this shape for kinds that look at the shape alone: it takes no memory."""
    return torch.zeros(()).expand(shape)


def _svd_of_delta(adapter: Adapter, weight: torch.Tensor, rank: int) -> Svd:
    delta = adapter.delta(weight.float()).flatten(1)
    return svd_of_dense(delta, rank or min(delta.shape), energy=0.0 if rank else 1.0 - NEGLIGIBLE)


def _lora(up: torch.Tensor, down: torch.Tensor, shape: Shape) -> LoRA:
    """Return a LoRA in the shapes that a module of the weight `shape` has."""
    ones = (1,) * (len(shape) - 2)
    rank = up.shape[1]
    return LoRA(up.reshape(shape[0], rank, *ones), down.reshape(rank, *shape[1:]), None, 1.0)
