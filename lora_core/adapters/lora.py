"""LoRA and LoCon: delta = scale · up · down, on linear layers and convolutions, with an optional Tucker core.

LoRA: Hu et al., arXiv:2106.09685. LoCon and Tucker: LyCORIS, arXiv:2309.14859. DyLoRA files (arXiv:2210.07558) are
LoRA files, and rsLoRA (arXiv:2312.03732) differs in the scale alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from .base import ScaledAdapter, Shape, Shapes


@dataclass(frozen=True, slots=True)
class LoRA(ScaledAdapter):
    """A low-rank update; factors keep the file's dtype until they are used."""

    up: torch.Tensor  # (out, r) or (out, r, 1, 1)
    down: torch.Tensor  # (r, in) or (r, in, *kernel); with a core (r', in, 1, 1)
    mid: torch.Tensor | None  # (r, r', *kernel), the core of a Tucker decomposition
    scale: float

    kind: ClassVar[str] = "LoRA"
    additive: ClassVar[bool] = True

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        up, down, mid = shapes.get("up"), shapes.get("down"), shapes.get("mid")
        if up is None or down is None:
            raise AdapterError(f"has {'down' if up is None else 'up'} without {'up' if up is None else 'down'}")
        if len(up) < 2 or len(down) < 2 or any(size != 1 for size in up[2:]):
            raise AdapterError(f"expected up [out, r] and down [r, in, ...], found {list(up)} and {list(down)}")
        if 0 in (*up, *down, *(mid or ())):
            raise AdapterError(f"holds no numbers: up {list(up)}, down {list(down)}")
        if mid is not None and len(mid) < 3:
            raise AdapterError(f"the core must be [r, r', ...], found {list(mid)}")
        inner = down[0] if mid is None else mid[1]
        outer = down[0] if mid is None else mid[0]
        if outer != up[1] or inner != down[0]:
            middle = "" if mid is None else f", mid {list(mid)}"
            raise AdapterError(f"the ranks of up {list(up)}{middle} and down {list(down)} differ")
        if mid is not None and any(size != 1 for size in down[2:]):
            raise AdapterError(f"with a Tucker core down must be [r, in, 1, 1], found {list(down)}")
        return (up[0], down[1], *(down[2:] if mid is None else mid[2:]))

    @classmethod
    def rank_of(cls, shapes: Shapes) -> int | None:
        return shapes["down"][0]

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> LoRA:
        return cls(parts["up"], parts["down"], parts.get("mid"), scale)

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        product = self.up.float().flatten(1) @ self._flat_down()
        return (product * self.scale).reshape(weight.shape)

    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        up = self.up.float().flatten(1) * self.scale
        return up, self._flat_down()

    def cut(self, start: int, length: int, total: int) -> LoRA:
        return replace(self, up=self.up[start : start + length])

    def comfyui_fails(self) -> bool:
        """ComfyUI takes a core of two-dimensional kernels alone."""
        return self.mid is not None and self.mid.dim() != 4

    def _flat_down(self) -> torch.Tensor:
        """Return down as (r, in·kernel), a Tucker core folded in: sum_j mid[r, j, k] · down[j, in]."""
        down = self.down.float().flatten(1)
        if self.mid is None:
            return down
        core = self.mid.float().transpose(0, 1).flatten(1)  # (r', r·kernel)
        folded = (down.t() @ core).reshape(down.shape[1], self.mid.shape[0], -1)  # (in, r, kernel)
        return folded.transpose(0, 1).flatten(1)
