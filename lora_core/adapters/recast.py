"""Adapters cut to rows, joined, and made plain LoRA: exactly where the kind allows, else fitted, with the error.

Everything here is an equation between deltas: the delta of the result is made of the deltas of what it comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..algebra.svd import Svd, svd_of_dense, svd_of_product
from ..errors import AdapterError
from ..lazytorch import torch
from . import DoRA, FullDifference, LoHa, LoRA, RowCut, SetValue, Shape
from .base import Adapter
from .lowrank import factors_of

Rows = Sequence[tuple[int, int]]  # (first, number) of each run
NEGLIGIBLE = 1e-12  # share of |delta|² that an exact rank may leave out: fp32 does not hold more


@dataclass(frozen=True, slots=True)
class PlacedRows:
    """Runs of an adapter's rows in a fused module, one after the other in both."""

    adapter: Adapter
    begins: Rows  # in the adapter: (first, number)
    rows: Sequence[int]  # where each run begins in the module


def take_rows(adapter: Adapter, runs: Rows, total: int) -> Adapter:
    """Return the adapter of the given runs of `total` rows, in this order.

    Raises AdapterError for a kind in which rows depend on each other, or of which any rows are not one of the kind.
    """
    if list(runs) == [(0, total)]:
        return adapter
    cuts = [adapter.cut(first, number, total) for first, number in runs]
    if any(isinstance(cut, RowCut) for cut in cuts):
        raise AdapterError(f"{adapter.kind}: some of its rows are not one {adapter.kind}")
    return cuts[0] if len(cuts) == 1 else _stacked(cuts)


def join(pieces: Sequence[PlacedRows], total: int) -> Adapter:
    """Return one adapter of a module of `total` rows: the sum of the pieces, each at its rows.

    Raises AdapterError if the pieces' kinds have no sum of the same kind.
    """
    adapters = [piece.adapter for piece in pieces]
    if all(isinstance(adapter, LoRA) for adapter in adapters):
        return _joined_loras(pieces, total)
    if all(isinstance(adapter, FullDifference) for adapter in adapters):
        return _joined_differences(pieces, total)
    if all(isinstance(adapter, DoRA) and not adapter.of_input for adapter in adapters) and _fill(pieces, total):
        return _joined_doras(pieces, total)
    kinds = " and ".join(sorted({adapter.kind for adapter in adapters}))
    raise AdapterError(f"{kinds} of parts of a fused weight are not one adapter of the same kind")


def as_lora(adapter: Adapter, weight: torch.Tensor, rank: int = 0) -> tuple[LoRA, float]:
    """Return (a LoRA with the delta that `adapter` has on `weight`, its relative error).

    `rank` is the highest that the LoRA may have; 0 for as high as it takes. For additive adapters the shape of
    `weight` is enough.
    """
    exact, found = factors_of(adapter), None
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


def _svd_of_delta(adapter: Adapter, weight: torch.Tensor, rank: int) -> Svd:
    delta = adapter.delta(weight.float()).flatten(1)
    return svd_of_dense(delta, rank or min(delta.shape), energy=0.0 if rank else 1.0 - NEGLIGIBLE)


def folded(tensor: torch.Tensor, scale: float) -> torch.Tensor:
    """Return the tensor times `scale`, in its own number format if that loses nothing, else in fp32."""
    return tensor if scale == 1 else kept(tensor.float() * scale, tensor.dtype)


def kept(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return an fp32 tensor in `dtype` if that loses nothing."""
    short = tensor.to(dtype)
    return short if torch.equal(short.to(tensor.dtype), tensor) else tensor


def _lora(up: torch.Tensor, down: torch.Tensor, shape: Shape) -> LoRA:
    """Return a LoRA in the shapes that a module of the weight `shape` has."""
    ones = (1,) * (len(shape) - 2)
    rank = up.shape[1]
    return LoRA(up.reshape(shape[0], rank, *ones), down.reshape(rank, *shape[1:]), None, 1.0)


def _stacked(cuts: Sequence[Adapter]) -> Adapter:
    """Return cuts of one adapter as one: what differs between them lies along the rows."""
    first = cuts[0]
    if isinstance(first, LoRA):
        return replace(first, up=torch.cat([cut.up for cut in cuts if isinstance(cut, LoRA)]))
    if isinstance(first, LoHa):
        axis = 0 if first.t1 is None else 1
        lohas = [cut for cut in cuts if isinstance(cut, LoHa)]
        rows = (torch.cat([cut.w1_a for cut in lohas], axis), torch.cat([cut.w2_a for cut in lohas], axis))
        return replace(first, w1_a=rows[0], w2_a=rows[1])
    if isinstance(first, FullDifference):
        return replace(first, diff=torch.cat([cut.diff for cut in cuts if isinstance(cut, FullDifference)]))
    if isinstance(first, SetValue):
        return replace(first, value=torch.cat([cut.value for cut in cuts if isinstance(cut, SetValue)]))
    if isinstance(first, DoRA):
        doras = [cut for cut in cuts if isinstance(cut, DoRA)]
        inner = _stacked([cut.inner for cut in doras])
        return replace(first, inner=inner, magnitude=torch.cat([cut.magnitude for cut in doras]))
    raise AdapterError(f"{first.kind}: its rows can't change places")


def _fill(pieces: Sequence[PlacedRows], total: int) -> bool:
    """Tell whether the pieces cover all rows, each once."""
    rows = sorted(row for piece in pieces for row in _positions(piece).tolist())
    return rows == list(range(total))


def _positions(piece: PlacedRows) -> torch.Tensor:
    """Return the row of the module for each row of the piece."""
    runs = zip(piece.begins, piece.rows, strict=True)
    return torch.cat([torch.arange(row, row + number) for (_, number), row in runs])


def _joined_loras(pieces: Sequence[PlacedRows], total: int) -> LoRA:
    """Return up in blocks and down stacked; pieces that share their down share its rank."""
    loras = [piece.adapter for piece in pieces if isinstance(piece.adapter, LoRA)]
    scales = {lora.scale for lora in loras}
    scale = scales.pop() if len(scales) == 1 else 1.0
    flat = [without_core(lora) for lora in loras]
    ups = [folded(up, lora.scale / scale) for (up, _), lora in zip(flat, loras, strict=True)]
    downs: list[torch.Tensor] = []
    blocks: list[torch.Tensor] = []
    for piece, up, (_, down) in zip(pieces, ups, flat, strict=True):
        place = next((at for at, other in enumerate(downs) if _same(other, down)), len(downs))
        if place == len(downs):
            downs.append(down)
            blocks.append(up.new_zeros((total, *up.shape[1:])))
        wide = torch.promote_types(blocks[place].dtype, up.dtype)
        blocks[place] = blocks[place].to(wide).index_add(0, _positions(piece), up.to(wide))
    return LoRA(torch.cat(blocks, dim=1), torch.cat(downs), None, scale)


def _same(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first, second)


def without_core(lora: LoRA) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (up, down) without scale, a Tucker core folded into down."""
    if lora.mid is None:
        return lora.up, lora.down
    _, down = replace(lora, scale=1.0).factors()
    return lora.up, down.reshape(down.shape[0], lora.down.shape[1], *lora.mid.shape[2:])


def _joined_differences(pieces: Sequence[PlacedRows], total: int) -> Adapter:
    """Return the differences laid into zeros."""
    found = [piece.adapter for piece in pieces if isinstance(piece.adapter, FullDifference)]
    values = [folded(item.diff, item.scale) for item in found]
    dtype = values[0].dtype
    for value in values[1:]:
        dtype = torch.promote_types(dtype, value.dtype)
    whole = torch.zeros((total, *values[0].shape[1:]), dtype=dtype)
    for piece, value in zip(pieces, values, strict=True):
        whole = whole.index_add(0, _positions(piece), value.to(dtype))
    return replace(found[0], diff=whole, scale=1.0)


def _joined_doras(pieces: Sequence[PlacedRows], total: int) -> DoRA:
    """Return one DoRA: the norms are of single rows, so they do not change."""
    found = [piece.adapter for piece in pieces if isinstance(piece.adapter, DoRA)]
    inner = [replace(piece, adapter=dora.inner) for piece, dora in zip(pieces, found, strict=True)]
    magnitude = torch.cat([dora.magnitude for dora in found])
    order = torch.cat([_positions(piece) for piece in pieces])
    return replace(
        found[0], inner=join(inner, total), magnitude=torch.empty_like(magnitude).index_copy(0, order, magnitude)
    )
