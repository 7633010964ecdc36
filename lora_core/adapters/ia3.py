"""(IA)³: each output's row, or each input's column, is multiplied by 1 + strength · vector.

Liu et al., arXiv:2205.05638. LyCORIS stores the vector, PEFT the factor 1 + vector, which it applies to the bias too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from ..naming.dialects import Loader
from .branch import AnyBranch, Branch
from .shapes import Shape, Shapes, required
from .spelling import Part, suffix_rows
from .stored import StoredAdapter, Told


@dataclass(frozen=True, slots=True)
class IA3(StoredAdapter):
    """LyCORIS' (IA)³: `.weight` with `.on_input` beside it."""

    vector: torch.Tensor  # (out,) or (in,)
    on_input: bool | None  # None: not told, so the output's if it has that length

    id: ClassVar[str] = "ia3"
    kind: ClassVar[str] = "IA3"
    suffixes: ClassVar[tuple[Part, ...]] = (
        *suffix_rows("ia3", "on_input", ".on_input"),  # LyCORIS
        Part(".weight", "ia3", "vector", beside=".on_input"),
    )
    flags: ClassVar[tuple[str, ...]] = ("on_input",)
    read_by: ClassVar[frozenset[Loader]] = frozenset()

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        return (math.prod(required(shapes, "vector", "on_input")[0]),)

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape, **settings: Any) -> bool:
        length = cls.delta_shape(shapes)[0]
        axis = _axis(length, weight, settings.get("on_input"))
        return axis < len(weight) and length == weight[axis]

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> IA3:
        return cls(parts["vector"].flatten(), settings["on_input"])

    @classmethod
    def settings_of(cls, shapes: Shapes, told: Told) -> dict[str, Any]:
        return {"on_input": told.number("on_input") != 0}

    def branch(self, weight: torch.Tensor) -> AnyBranch | None:
        """Rows are scaled in the output; columns would need the layer's product a second time."""
        is_rows = _axis(len(self.vector), tuple(weight.shape), self.on_input) == 0
        return Branch(None, self.vector.float()) if is_rows else None

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        shape = [1] * weight.dim()
        shape[_axis(len(self.vector), tuple(weight.shape), self.on_input)] = -1
        return weight.float() * self.vector.float().reshape(shape)

    def cut(self, start: int, length: int, total: int) -> IA3:
        if self.on_input or (self.on_input is None and len(self.vector) != total):
            return replace(self, on_input=True)
        return replace(self, vector=self.vector[start : start + length], on_input=False)


@dataclass(frozen=True, slots=True)
class PeftIA3(IA3):
    """PEFT's (IA)³: `ia3_l`, of a weight, or of the bias beside it.

    A matrix tells its axis, [out, 1] or [1, in]; a convolution has [1, n, 1, 1] for both.
    """

    id: ClassVar[str] = "peft_ia3"
    suffixes: ClassVar[tuple[Part, ...]] = suffix_rows("peft_ia3", "vector", ".ia3_l", ".ia3_l.default")
    flags: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        (vector,) = required(shapes, "vector")
        if len(vector) < 2 or sum(size != 1 for size in vector) > 1:
            raise AdapterError(f"expected a vector [out, 1] or [1, in, ...], found {list(vector)}")
        return (math.prod(vector),)

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> PeftIA3:
        return cls((parts["vector"].float() - 1).flatten(), settings["on_input"])

    @classmethod
    def settings_of(cls, shapes: Shapes, told: Told) -> dict[str, Any]:
        shape = shapes["vector"]
        return {"on_input": shape[0] == 1 if len(shape) == 2 else told.is_feedforward()}

    @classmethod
    def also_changes(cls, settings: Mapping[str, Any]) -> tuple[str, ...]:
        return () if settings["on_input"] else ("bias",)


def _axis(length: int, weight: Shape, on_input: bool | None) -> int:
    if on_input is None:
        return 0 if weight and weight[0] == length else 1
    return int(on_input)
