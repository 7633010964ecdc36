"""What every adapter can say of itself; whoever uses one asks it, and never which kind it is.

An adapter depends on nothing but its tensors and the weight that it is given. Strength is not its business:
W' = W + strength · delta(W), for every kind.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..algebra.factored import Factors
from ..algebra.svd import Svd, svd_of_product
from ..errors import AdapterError
from ..lazytorch import torch
from .branch import AnyBranch, low_rank_branch
from .lowrank import change_square_of
from .parts import Parts
from .shapes import Shape

Rows = Sequence[tuple[int, int]]  # (first, number) of each run


@dataclass(frozen=True, slots=True)
class Adapter(ABC):
    """One module's update."""

    kind: ClassVar[str]  # the name for people
    additive: ClassVar[bool] = False  # the delta does not depend on the weight, so order does not matter
    is_whole: ClassVar[bool] = False  # one tensor in the parameter's shape, so that a vector's needs no other form
    difference: ClassVar[str] = ""  # the kind as which a sum of such whole differences is stored

    @abstractmethod
    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        """Return W' - W at strength 1 in fp32, in the shape of `weight`, which is left as it is."""

    def cut(self, start: int, length: int, total: int) -> Adapter:
        """Return the same update of rows [start, start + length) of `total`, which fill a weight of their own."""
        raise AdapterError(f"{self.kind} mixes the rows of a fused weight, so it can't be applied to a part of them")

    def is_zero(self) -> bool:
        """Tell, from the tensors alone, whether the delta is zero on every weight; a cautious no where they don't."""
        return False

    # As a product of low rank: the first is what a stack is applied with, the second what is measured and written

    def factors(self) -> Factors | None:
        """Return (up [out, r], down [r, in·kernel]) in fp32, scale folded in; None for kinds that hold no factors."""
        return None

    def low_rank(self) -> Factors | None:
        """Return factors as above of every additive kind whose rank its own tensors bound, else None."""
        return self.factors()

    def stored_factors(self) -> tuple[torch.Tensor, torch.Tensor, float] | None:
        """Return (up, down, scale) with the tensors as they are, two-dimensional; None if it holds no such factors."""
        return None

    def svd(self, shape: Shape, rank: int) -> Svd | None:
        """Return all singular values of an additive adapter's change, and the vectors of at least the first `rank`.

        `shape` is that of the weight. None for kinds whose rank nothing bounds.
        """
        found = self.low_rank()
        return None if found is None else svd_of_product(*found, rank)

    def change_square(self) -> float | None:
        """Return |delta|² of a kind whose own tensors tell it at little cost, None of the others."""
        return change_square_of(self.factors())

    # Beside the weight

    def branch(self, weight: torch.Tensor) -> AnyBranch | None:
        """Return what adds the change to the output of a layer with this weight; None if nothing cheap does.

        `weight` is read by kinds that depend on it, and has any number format; of others its shape counts.
        """
        return low_rank_branch(self.low_rank()) if self.additive else None

    # In another file

    def parts(self) -> Parts:
        """Return the tensors of an adapter that was made; raises AdapterError for a kind that is only renamed."""
        raise AdapterError(f"{self.kind} has no parts of its own here")

    def stacked(self, cuts: Sequence[Adapter]) -> Adapter:
        """Return cuts of one adapter, of which this is the first, as one: what differs between them lies along rows."""
        raise AdapterError(f"{self.kind}: its rows can't change places")

    def joined(self, pieces: Sequence[PlacedRows], total: int) -> Adapter | None:
        """Return the sum of the pieces, of which this is the first, as one adapter of `total` rows.

        None if it is not one of this kind.
        """
        return None

    # On a weight that grows: see Reshape

    @property
    def new_shape(self) -> Shape | None:
        """The shape that the weight is padded to, None if it keeps its own."""
        return None

    def padded(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the weight in the new shape; raises AdapterError if it is larger."""
        return weight

    def on_padded(self) -> Adapter:
        """Return what changes the padded weight."""
        return self

    # What ComfyUI makes of it

    def comfyui_change(self, weight: torch.Tensor, strength: float) -> torch.Tensor:
        """Return the change that ComfyUI's own loader makes, for kinds that it reads; others change as published."""
        return strength * self.delta(weight)

    def comfyui_fails(self) -> bool:
        """Tell whether ComfyUI's own loader raises for this adapter, and so leaves the weight as it is."""
        return False


@dataclass(frozen=True, slots=True)
class PlacedRows:
    """Runs of an adapter's rows in a fused module, one after the other in both."""

    adapter: Adapter
    begins: Rows  # in the adapter: (first, number)
    rows: Sequence[int]  # where each run begins in the module

    def positions(self) -> torch.Tensor:
        """Return the row of the module for each row of the piece."""
        runs = zip(self.begins, self.rows, strict=True)
        return torch.cat([torch.arange(row, row + number) for (_, number), row in runs])


def join(pieces: Sequence[PlacedRows], total: int) -> Adapter:
    """Return one adapter of a module of `total` rows: the sum of the pieces, each at its rows.

    Raises AdapterError if the pieces' kinds have no sum of the same kind.
    """
    found = pieces[0].adapter.joined(pieces, total)
    if found is None:
        kinds = " and ".join(sorted({piece.adapter.kind for piece in pieces}))
        raise AdapterError(f"{kinds} of parts of a fused weight are not one adapter of the same kind")
    return found
