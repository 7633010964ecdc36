"""VeRA: delta = diag(b) · B · diag(d) · A, with random A and B that a file has once for all modules.

Kopiczko et al., arXiv:2310.11454, as PEFT has it: each module takes the first columns of A and the first rows of B.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..algebra.svd import Svd, svd_of_product
from ..errors import AdapterError
from ..lazytorch import torch
from .numbers import holds_zeros
from .peft import PeftAdapter, is_linear_weight, with_dimensions
from .shapes import Shape, Shapes
from .spelling import Part, suffix_rows


@dataclass(frozen=True, slots=True)
class VeRA(PeftAdapter):
    """A module's two vectors with the projections of the file."""

    of_output: torch.Tensor  # (out,)
    of_rank: torch.Tensor  # (r,)
    down: torch.Tensor  # (r, most inputs)
    up: torch.Tensor  # (most outputs, r)
    first: int = 0  # row of `up`

    id: ClassVar[str] = "vera"
    kind: ClassVar[str] = "VeRA"
    additive: ClassVar[bool] = True
    suffixes: ClassVar[tuple[Part, ...]] = (
        *suffix_rows("vera", "of_output", ".vera_lambda_b"),
        *suffix_rows("vera", "of_rank", ".vera_lambda_d"),
        *suffix_rows("vera", "down", ".vera_A", shared=True),
        *suffix_rows("vera", "up", ".vera_B", shared=True),
    )

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        of_output, of_rank = with_dimensions(shapes, 1, "of_output", "of_rank")
        down, up = with_dimensions(shapes, 2, "down", "up")
        if not of_rank[0] == down[0] == cls._ranks(up[1]) or of_output[0] > up[0]:
            raise AdapterError(
                f"b {list(of_output)}, d {list(of_rank)}, A {list(down)} and B {list(up)} do not fit each other"
            )
        return (of_output[0], 0)

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape, **settings: Any) -> bool:
        return is_linear_weight(weight) and weight[0] == shapes["of_output"][0] and weight[1] <= shapes["down"][1]

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> VeRA:
        rank = parts["up"].shape[1]
        return VeRA(parts["of_output"], parts["of_rank"][:rank], parts["down"][:rank], parts["up"])

    @classmethod
    def _ranks(cls, rank: int) -> int:
        """Return how many rows A has for a B of `rank` columns."""
        return rank

    def is_zero(self) -> bool:
        return holds_zeros(self.of_output) or holds_zeros(self.of_rank)

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        up, down = self._sliced(weight[0].numel())
        return (up @ down).reshape(weight.shape)

    def svd(self, shape: Shape, rank: int) -> Svd | None:
        return svd_of_product(*self._sliced(torch.Size(shape[1:]).numel()), rank)

    def cut(self, start: int, length: int, total: int) -> VeRA:
        return replace(self, of_output=self.of_output[start : start + length], first=self.first + start)

    def _sliced(self, inputs: int) -> tuple[torch.Tensor, torch.Tensor]:
        up = self.up[self.first : self.first + len(self.of_output)].float() * self.of_output.float()[:, None]
        return up, self.down[:, :inputs].float() * self.of_rank.float()[:, None]


@dataclass(frozen=True, slots=True)
class PVeRA(VeRA):
    """PVeRA: the second half of A and d is the logarithm of a variance, which only training draws from."""

    id: ClassVar[str] = "pvera"
    kind: ClassVar[str] = "PVeRA"
    suffixes: ClassVar[tuple[Part, ...]] = (
        *suffix_rows("pvera", "of_output", ".pvera_lambda_b"),
        *suffix_rows("pvera", "of_rank", ".pvera_lambda_d"),
        *suffix_rows("pvera", "down", ".pvera_A", shared=True),
        *suffix_rows("pvera", "up", ".pvera_B", shared=True),
    )

    @classmethod
    def _ranks(cls, rank: int) -> int:
        return 2 * rank
