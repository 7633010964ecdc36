"""What an adapter changes in a layer: as factors where it has them, else as a matrix of the layer's shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...adapters import KINDS, Adapter, FullDifference, Shape
from ...adapters.cost import check_whole
from ...algebra.change import grown
from ...errors import AdapterError
from ...lazytorch import torch
from .members import Contribution, StackedLayer


@dataclass(frozen=True, slots=True)
class FactoredChange:
    """strength · scale · up · down."""

    up: torch.Tensor  # (out, r), in the file's dtype where it is the file's tensor
    down: torch.Tensor  # (r, in·kernel)
    scale: float
    strength: float
    member: int

    @property
    def weight(self) -> float:
        return self.strength * self.scale

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    def dense(self) -> torch.Tensor:
        """Return the change at strength 1 in fp32, (out, in·kernel)."""
        return (self.up.float() @ self.down.float()).mul_(self.scale)


def read(part: Contribution) -> Adapter:
    """Read an adapter's tensors; raises AdapterError naming the layer if its numbers are none of an adapter."""
    return part.member.lora.sound_adapter(part.spec)


def depends_on_weight(part: Contribution) -> bool:
    """Tell, without its tensors, whether the change is not the same for every weight; growing it is no such thing."""
    return part.spec.magnitude is not None or not KINDS[part.spec.kind].additive


def is_dense(layer: StackedLayer) -> bool:
    """Tell whether a layer takes matrices as large as its weight, which are best made one after the other."""
    is_full = any(KINDS[part.spec.kind].difference == FullDifference.id for part in layer.parts) and not layer.is_vector
    return is_full or any(depends_on_weight(part) for part in layer.parts)


def check_dense(parts: Sequence[Contribution], shape: Shape) -> None:
    """Raise AdapterError for a layer that is far too large to be made whole of what these parts are."""
    for part in parts:
        check_whole(part.where, shape, *part.spec.shapes.values())


def factored_change(part: Contribution, adapter: Adapter, shape: Shape) -> FactoredChange | None:
    """Return the change of the layer's rows as factors, None for a kind without; `shape` is what the layer grows to."""
    inner, own = adapter, part.job.slot.shape
    if adapter.new_shape is not None:
        if not part.is_whole:
            raise AdapterError(f"{part.where}: makes a part of a fused weight larger, which can't be combined.")
        inner, own = adapter.on_padded(), adapter.new_shape
    stored = inner.stored_factors()
    if stored is None:
        factors = inner.low_rank()
        if factors is None:
            return None
        stored = (*factors, 1.0)
    up, down, scale = stored
    if not part.is_whole:
        up = _placed(part, up, own[0])
    if own != shape:
        check_dense([part], (down.shape[0], *shape[1:]))
        up, down = _widened(up, down, own, shape)
    return FactoredChange(up, down, scale, part.strength, part.member.index)


def dense_of(part: Contribution, adapter: Adapter) -> torch.Tensor:
    """Return the change of the layer at strength 1 in fp32, in the layer's shape; for additive kinds.

    Raises AdapterError for one that makes the weight larger and has no factors.
    """
    if adapter.new_shape is not None:
        raise AdapterError(f"{part.where}: {adapter.on_padded().kind} that makes its weight larger can't be combined.")
    delta = adapter.delta(torch.zeros(part.piece.shape))
    return delta if part.is_whole else _placed(part, delta, part.job.slot.shape[0])


def _placed(part: Contribution, rows_of_adapter: torch.Tensor, rows: int) -> torch.Tensor:
    """Return the rows that the layer takes of an adapter, where the layer has them, and zeros elsewhere."""
    result = rows_of_adapter.new_zeros(rows, *rows_of_adapter.shape[1:])
    for first, number, row in part.piece.runs:
        result[row : row + number] = rows_of_adapter[first : first + number]
    return result


def _widened(up: torch.Tensor, down: torch.Tensor, old: Shape, new: Shape) -> tuple[torch.Tensor, torch.Tensor]:
    """Return factors of a weight that zeros make larger."""
    wide_down = grown(down.reshape(-1, *old[1:]), (down.shape[0], *new[1:]))
    return grown(up, (new[0], up.shape[1])), wide_down.flatten(1)
