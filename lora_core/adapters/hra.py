"""HRA: W' = W · R, with R a chain of reflections at the planes across the columns of u.

Yuan et al., arXiv:2405.17484, as PEFT has it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from .peft import PeftAdapter, choice_option, flat, with_dimensions
from .shapes import Shape, Shapes
from .spelling import Part, suffix_rows
from .stored import Told

_MOST = 256  # planes, also where there are fewer dimensions


@dataclass(frozen=True, slots=True)
class HRA(PeftAdapter):
    """Rows do not mix, so rows of a fused weight can be taken as they are."""

    planes: torch.Tensor  # (in · kernel, r)
    is_orthogonal: bool  # the columns are made orthogonal to each other first, Gram and Schmidt's way

    id: ClassVar[str] = "hra"
    kind: ClassVar[str] = "HRA"
    suffixes: ClassVar[tuple[Part, ...]] = suffix_rows("hra", "planes", ".hra_u")

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        ((inputs, planes),) = with_dimensions(shapes, 2, "planes")
        if planes > max(inputs, _MOST):
            raise AdapterError(f"has {planes} planes in {inputs} dimensions")
        return (0, inputs)

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape, **settings: Any) -> bool:
        return len(weight) > 1 and math.prod(weight[1:]) == shapes["planes"][0]

    @classmethod
    def settings_of(cls, shapes: Shapes, told: Told) -> dict[str, Any]:
        return {"is_orthogonal": choice_option(told, "apply_GS", (True, False))}

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> HRA:
        return cls(parts["planes"], settings["is_orthogonal"])

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        matrix = flat(weight)
        turned = matrix
        for plane in self._unit_planes():
            turned = turned - 2 * torch.outer(turned @ plane, plane)
        return (turned - matrix).reshape(weight.shape)

    def cut(self, start: int, length: int, total: int) -> HRA:
        return self

    def _unit_planes(self) -> torch.Tensor:
        """Return the planes (r, in · kernel) as unit vectors, each taken off those before it at once, and once more."""
        found = self.planes.float().t().clone(memory_format=torch.contiguous_format)
        for number, plane in enumerate(found):
            before = found[:number]
            for _ in range(2 if self.is_orthogonal else 0):  # a second time takes off what rounding left
                plane.sub_(before.t() @ (before @ plane))
            plane.div_(plane.norm())
        return found
