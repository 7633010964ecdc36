"""Sums of products added to a weight: tile by tile, so that the weight is read and written once.

A tile of about 4 MB in fp32 stays in the cache while it is converted, added to and rounded. How a weight is divided
follows from its shape alone, never from its dtype, so the live weight and the merged file get the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..lazytorch import torch
from ..naming.targets import Target
from .rounding import SampledRows

TILE = 2**20  # numbers in a tile
_WIDTH = 2**11  # columns in a tile at most: more would leave so few rows that the down factors are read too often
_STEP = 64  # rows and columns of a tile are multiples of it, so that no row is added up in another order than its kin


@dataclass(frozen=True, slots=True)
class Product:
    """A change up · down of some rows of a weight, which is seen as a matrix [out, in·kernel]."""

    up: torch.Tensor  # (rows, r), strength and scale folded in
    down: torch.Tensor  # (r, in·kernel)
    start: int  # the first of the rows

    @classmethod
    def at(cls, target: Target, up: torch.Tensor, down: torch.Tensor) -> Product:
        """Return the product of factors as the adapter sees them, as the target's weight lies in the checkpoint."""
        up = target.laid(up)
        if target.transposed:
            up, down = down.t(), up.t()
        return cls(up, down, target.start or 0)


def add_products(
    weight: torch.Tensor, products: Iterable[Product], out: torch.Tensor, sampled: SampledRows | None = None
) -> None:
    """Write `weight` plus the products into `out`, rounded once into its dtype; sums are made in fp32.

    `out` has the shape of `weight` and may be `weight` itself; then nothing is read or written where nothing changes.
    `sampled` is given the sums, before they are rounded.
    """
    summed = _summed(products)
    if out is weight and not summed:
        if sampled is not None:
            sampled.take(_matrix(out), slice(0, None), slice(None))
        return
    if out.is_contiguous():
        _add_tiles(_matrix(weight), summed, _matrix(out), sampled, in_place=out is weight)
        return
    room = torch.empty(out.shape, dtype=torch.float32, device=out.device)
    _add_tiles(_matrix(weight), summed, _matrix(room), sampled, in_place=False)
    out.copy_(room)


def _summed(products: Iterable[Product]) -> list[Product]:
    """Return one product for each range of rows: [up1 | up2 | …] · [down1; down2; …]."""
    ranges: dict[tuple[int, int], list[Product]] = {}
    for product in products:
        ranges.setdefault((product.start, product.up.shape[0]), []).append(product)
    return [_sum_of(several) for several in ranges.values()]


def _sum_of(several: Sequence[Product]) -> Product:
    if len(several) == 1:
        return several[0]
    up, down = (torch.cat([getattr(one, side) for one in several], axis) for side, axis in (("up", 1), ("down", 0)))
    return Product(up, down, several[0].start)


def _add_tiles(
    weight: torch.Tensor, products: list[Product], out: torch.Tensor, sampled: SampledRows | None, *, in_place: bool
) -> None:
    buffer = torch.empty(0, dtype=torch.float32, device=out.device)
    for rows, columns in _tiles(*out.shape, whole=out.device.type != "cpu"):
        written = out[rows, columns]
        tile = written
        if out.dtype != torch.float32:
            buffer = buffer if buffer.numel() >= tile.numel() else buffer.new_empty(tile.shape).flatten()
            tile = buffer[: tile.numel()].view(tile.shape)
        if not (in_place and tile is written):
            tile.copy_(weight[rows, columns])
        for product in products:
            _add(product, tile, rows, columns)
        if sampled is not None:
            sampled.take(tile, rows, columns)
        if tile is not written:
            written.copy_(tile)


def _add(product: Product, tile: torch.Tensor, rows: slice, columns: slice) -> None:
    """Add the part of the product that is in the tile at these rows and columns of the weight."""
    first, last = max(rows.start, product.start), min(rows.stop, product.start + product.up.shape[0])
    if first < last:
        up = product.up[first - product.start : last - product.start]
        tile[first - rows.start : last - rows.start].addmm_(up, product.down[:, columns])


def _tiles(rows: int, columns: int, *, whole: bool) -> Iterator[tuple[slice, slice]]:
    """Yield the tiles of a matrix; `whole` for processors that divide a product better themselves."""
    width = columns if whole else _size(columns, _WIDTH)
    height = rows if whole else _size(rows, TILE // max(width, 1))
    for row in range(0, rows, max(height, 1)):
        for column in range(0, columns, max(width, 1)):
            yield slice(row, min(row + height, rows)), slice(column, min(column + width, columns))


def _size(length: int, most: int) -> int:
    """Return the size of equal parts of `length`, about `most` at most; equal, so that none has a row or two alone."""
    count = -(-length // max(most, 1))
    return -(-length // max(count, 1) // _STEP) * _STEP if count > 1 else length


def _matrix(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor as a matrix [out, in·kernel]: a view where it lies in order in memory."""
    return tensor.reshape(tensor.shape[0] if tensor.dim() else 1, -1)
