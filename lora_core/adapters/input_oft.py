"""OFT of the input, as PEFT and OneTrainer train it: W' = W · R.T in blocks of the input's columns.

OFTv2: Qiu et al., arXiv:2506.19847 (PEFT `oft_R`). The file holds the upper triangles of skew matrices. It does not
say how they become rotations: OneTrainer always sums five terms of a series, PEFT's configuration tells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from ..naming.dialects import Loader
from .numbers import holds_zeros
from .rotation import block_size_of, cayley, cayley_neumann, skew_from_vectors
from .shapes import Shape, Shapes, required
from .spelling import Part, suffix_rows
from .stored import StoredAdapter, Told

_TERMS = 5  # of the Cayley-Neumann series, both programs' default


@dataclass(frozen=True, slots=True)
class InputOFT(StoredAdapter):
    """Rows do not mix, so rows of a fused weight can be taken as they are."""

    vectors: torch.Tensor  # (n, b(b - 1)/2), n · b = in · kernel; n = 1: one block for all
    scaled: bool  # OneTrainer's `scaled_oft`: the vectors are divided by 2·sqrt(b - 1)
    terms: int  # of the series; 0 is Cayley's exact map
    limit: float | None  # COFT: the most that a block's |Q| · sqrt(n) may be
    turned_back: bool  # OneTrainer rotates a convolution by R where a linear layer has R.T

    id: ClassVar[str] = "input_oft"
    kind: ClassVar[str] = "OFT"
    suffixes: ClassVar[tuple[Part, ...]] = (
        *suffix_rows("input_oft", "vectors", ".oft_R.weight", ".oft_R.default.weight"),  # PEFT, OneTrainer
        *suffix_rows("input_oft", "scaled", ".oft_R.scaled_oft"),  # OneTrainer
    )
    flags: ClassVar[tuple[str, ...]] = ("scaled",)
    read_by: ClassVar[frozenset[Loader]] = frozenset()

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        (vectors,) = required(shapes, "vectors")
        size = block_size_of(vectors[1]) if len(vectors) == 2 else 0
        if not size:
            raise AdapterError(f"expected vectors [n, b(b - 1)/2], found {list(vectors)}")
        return (0, vectors[0] * size)

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape, **settings: Any) -> bool:
        width, inputs = cls.delta_shape(shapes)[1], math.prod(weight[1:])
        return len(weight) > 1 and (inputs == width or (shapes["vectors"][0] == 1 and inputs % width == 0))

    @classmethod
    def room(cls, shapes: Shapes, weight: Shape, **settings: Any) -> int:
        """One block of its own for each run of inputs, where the file has one for all."""
        return max(math.prod(weight), math.prod(weight[1:]) * block_size_of(shapes["vectors"][1]))

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> InputOFT:
        scaled = "scaled" in parts and bool(parts["scaled"].any())
        terms, limit = settings.get("terms", _TERMS), settings.get("limit")
        return cls(parts["vectors"], scaled, terms, limit, settings.get("turned_back", False))

    @classmethod
    def settings_of(cls, shapes: Shapes, told: Told) -> dict[str, Any]:
        """PEFT's configuration tells how vectors become rotations, OneTrainer has no choice."""
        if not told.is_peft and not told.module.startswith("base_model.model."):
            return {"turned_back": True}
        exact = told.option("use_cayley_neumann") is False
        terms = told.option("num_cayley_neumann_terms")
        limit = told.option("eps") if told.option("coft") is True else None
        return {
            "terms": 0 if exact else terms if isinstance(terms, int) and 0 < terms < 100 else _TERMS,
            "limit": float(limit) if isinstance(limit, (int, float)) else None,
        }

    def is_zero(self) -> bool:
        return holds_zeros(self.vectors)

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        rotations = self._rotations()
        columns = weight.float().reshape(weight.shape[0], -1, rotations.shape[-1])  # (out, n, b)
        if self.turned_back and weight.dim() > 2:
            rotations = rotations.transpose(1, 2)
        rotations = rotations.expand(columns.shape[1], -1, -1)
        return torch.einsum("onb,ncb->onc", columns, rotations).reshape(weight.shape) - weight.float()

    def cut(self, start: int, length: int, total: int) -> InputOFT:
        return self

    def _rotations(self) -> torch.Tensor:
        q = skew_from_vectors(self.vectors)
        if self.scaled:
            q = q / (2 * (q.shape[-1] - 1) ** 0.5)
        if self.limit is not None:
            norm = torch.linalg.vector_norm(q, dim=(1, 2), keepdim=True)
            most = self.limit / len(q) ** 0.5
            q = torch.where(norm > most, q * (most / norm), q)
        # PEFT's exact map is (I - Q)(I + Q)^-1, its series that of (I + Q)(I - Q)^-1
        return cayley_neumann(q, self.terms) if self.terms else cayley(-q)
