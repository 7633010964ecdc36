"""How high ranks may get: by a rule, or as high as it takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..arch.base import Shape
from ..files.tensorheader import element_count
from ..lazytorch import torch
from ..linalg import Svd, svd_of_dense
from ..ranks import RankRule

NEGLIGIBLE = 1e-12  # share of |delta|² that an exact rank may leave out: fp32 does not hold more
NO_LIMIT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Limits:
    """What a user asked of ranks."""

    rule: RankRule | None  # None: no rank is cut off
    max_rank: int  # of what has no factors, without a rule

    @property
    def deciding(self) -> RankRule:
        """The rule that decides: without one, every singular value is kept that was found."""
        return self.rule or RankRule("rank", 0.0, NO_LIMIT)

    def hold(self, rank: int) -> bool:
        """Tell whether a sum of this rank needs no cut."""
        return self.rule is None or (self.rule.by == "rank" and rank <= self.rule.max_rank)

    def most(self, shape: Shape) -> int:
        """Return the highest rank that a layer can get."""
        rows, columns = shape[0], element_count(shape[1:])
        return min(rows, columns, NO_LIMIT if self.rule is None or self.rule.by == "sum" else self.rule.max_rank)

    def fitted(self, matrix: torch.Tensor, rank: int = 0) -> Svd:
        """Return singular values of a dense change: all that may be kept; without a rule the first `rank`, if given."""
        if self.rule is None:
            most = min(rank or self.max_rank, self.max_rank, *matrix.shape)
            svd = svd_of_dense(matrix, most, energy=0.0 if rank else 1.0 - NEGLIGIBLE)
            return replace(svd, left=svd.left[:, :most], values=svd.values[:most], right=svd.right[:most])
        energy = self.rule.threshold if self.rule.by == "energy" else 0.0
        return svd_of_dense(matrix, self.most(tuple(matrix.shape)), energy=energy)
