"""A change of one weight laid out as a matrix (out, in·kernel): as factors where there are any, else whole."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..arch.base import Shape
from ..lazytorch import torch
from ..naming.targets import Target
from .factored import Factors, inner


@dataclass(frozen=True, slots=True)
class Change:
    """dW, the product of its parts."""

    parts: tuple[torch.Tensor, ...]  # of two dimensions: one whole matrix, or up and down

    @classmethod
    def whole(cls, delta: torch.Tensor) -> Change:
        """Take a change in its weight's shape; a vector is a matrix of one column."""
        return cls((delta.flatten(1) if delta.dim() > 1 else delta.reshape(-1, 1),))

    @property
    def factors(self) -> Factors | None:
        return (self.parts[0], self.parts[1]) if len(self.parts) > 1 else None

    @property
    def size(self) -> tuple[int, int]:
        """(out, in·kernel)."""
        return self.parts[0].shape[0], self.parts[-1].shape[1]

    def dense(self) -> torch.Tensor:
        factors = self.factors
        return self.parts[0] if factors is None else factors[0] @ factors[1]

    def times(self, strength: float) -> Change:
        return Change((self.parts[0] * strength, *self.parts[1:]))

    def plus(self, other: Change) -> Change:
        """Return the sum of two changes of one tensor."""
        if self.factors is None or other.factors is None:
            return Change((self.dense() + other.dense(),))
        return Change((torch.cat((self.parts[0], other.parts[0]), dim=1), torch.cat((self.parts[1], other.parts[1]))))

    def padded(self, rows: int, columns: int) -> Change:
        """Return the change of a tensor that zeros pad to this size: a LoRA of a stack may widen it."""
        first, *more = self.parts
        if not more:
            return Change((grown(first, (rows, columns)),))
        return Change((grown(first, (rows, first.shape[1])), grown(more[0], (more[0].shape[0], columns))))

    def product(self, other: Change) -> float:
        """Return <dW1, dW2>, summed in fp64."""
        if self.factors and other.factors:
            return inner(self.factors, other.factors)
        if not (self.factors or other.factors):
            return float((self.parts[0] * other.parts[0]).sum(dtype=torch.float64))
        factored, whole = (self, other) if self.factors else (other, self)
        up, down = factored.parts
        return float(((up.t() @ whole.parts[0]) * down).sum(dtype=torch.float64))

    def taken(self, target: Target) -> Change:
        """Return what of a whole tensor's change a target is, as the target's adapter sees it."""
        upright = self._transposed() if target.transposed else self
        return Change((replace(target, transposed=False).take(upright.parts[0]), *upright.parts[1:]))

    def placed(self, target: Target, shape: Shape) -> Change:
        """Return what of an adapter's change falls on its target, as a change of the whole tensor of this shape."""
        length = target.shape[0] if target.shape else 1
        change = self._rows(target.rows[0], length) if target.rows else self
        change = Change((target.laid(change.parts[0]), *change.parts[1:]))
        change = change._transposed() if target.transposed else change
        return change if target.start is None else change._laid(target.start, shape[0])

    def _transposed(self) -> Change:
        return Change(tuple(part.t() for part in reversed(self.parts)))

    def _rows(self, start: int, length: int) -> Change:
        return Change((self.parts[0].narrow(0, start, length), *self.parts[1:]))

    def _laid(self, start: int, rows: int) -> Change:
        """Return the change as that of a matrix of `rows`, zero around it."""
        around = (0, 0, start, rows - start - self.size[0])
        return Change((torch.nn.functional.pad(self.parts[0], around), *self.parts[1:]))


def grown(tensor: torch.Tensor, shape: Shape) -> torch.Tensor:
    """Return a tensor with zeros behind it in every dimension, up to this shape."""
    result = tensor.new_zeros(shape)
    result[tuple(slice(size) for size in tensor.shape)] = tensor
    return result
