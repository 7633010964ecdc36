"""OSF: the small singular values of a weight and their vectors are replaced, the large ones stay.

Nayak et al., arXiv:2504.07097, as PEFT has it: delta = U · diag(S) · V less the same of the weight itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from .peft import PeftAdapter, flat, is_linear_weight, with_dimensions
from .shapes import Shape, Shapes
from .spelling import Part, suffix_rows


@dataclass(frozen=True, slots=True)
class OSF(PeftAdapter):
    """It takes the singular values of the weight that it is given, all of them."""

    up: torch.Tensor  # (out, n)
    values: torch.Tensor  # (n,)
    down: torch.Tensor  # (n, in)

    id: ClassVar[str] = "osf"
    kind: ClassVar[str] = "OSF"
    suffixes: ClassVar[tuple[Part, ...]] = (
        *suffix_rows("osf", "up", ".osf_svd_params.U_low"),
        *suffix_rows("osf", "values", ".osf_svd_params.S_low"),
        *suffix_rows("osf", "down", ".osf_svd_params.V_low"),
    )

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        up, down = with_dimensions(shapes, 2, "up", "down")
        (values,) = with_dimensions(shapes, 1, "values")
        if not up[1] == values[0] == down[0]:
            raise AdapterError(f"U {list(up)}, S {list(values)} and V {list(down)} do not fit each other")
        return (up[0], down[1])

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape, **settings: Any) -> bool:
        whole = is_linear_weight(weight) and weight[:2] == cls.delta_shape(shapes)
        return whole and shapes["values"][0] <= min(weight[:2])

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> OSF:
        return cls(parts["up"], parts["values"], parts["down"])

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        u, s, v = torch.linalg.svd(flat(weight), full_matrices=False)
        kept = len(s) - len(self.values)
        before = u[:, kept:] * s[kept:] @ v[kept:]
        return ((self.up.float() * self.values.float()) @ self.down.float() - before).reshape(weight.shape)
