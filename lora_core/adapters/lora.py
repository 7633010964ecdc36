"""LoRA and LoCon: delta = scale · up · down, on linear layers and convolutions, with an optional Tucker core.

LoRA: Hu et al., arXiv:2106.09685. LoCon and Tucker: LyCORIS, arXiv:2309.14859. DyLoRA files (arXiv:2210.07558) are
LoRA files, and rsLoRA (arXiv:2312.03732) differs in the scale alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..algebra.factored import Factors
from ..errors import AdapterError
from ..lazytorch import torch
from ..naming.dialects import Loader
from .base import Adapter, PlacedRows
from .lowrank import is_folded_outward, sides
from .parts import Parts, folded, kept, side_by_side, summable_dtype
from .shapes import Shape, Shapes
from .spelling import LOOKUP_FACTORS, Family, Part, is_lookup, suffix_rows, written_suffix
from .stored import ScaledAdapter

_SUFFIXES = (
    *suffix_rows("lora", "up", ".lora_up.weight"),  # kohya, LyCORIS, OneTrainer
    *suffix_rows("lora", "up", ".lora_B.weight", family="peft"),  # PEFT, diffusers
    *suffix_rows(
        "lora",
        "up",
        ".lora_B.default.weight",  # PEFT with its adapter name left in; any other name is read too
        ".lora_B",  # Mochi
        ".lora.up.weight",  # diffusers 0.20
        "_lora.up.weight",  # diffusers attention processors
        ".lora_linear_layer.up.weight",  # diffusers text encoders
        ".up.weight",  # XLabs, USO: the module's name ends in `_lora1`
    ),
    *suffix_rows("lora", "down", ".lora_down.weight"),
    *suffix_rows("lora", "down", ".lora_A.weight", family="peft"),
    *suffix_rows(
        "lora",
        "down",
        ".lora_A.default.weight",
        ".lora_A",
        ".lora.down.weight",
        "_lora.down.weight",
        ".lora_linear_layer.down.weight",
        ".down.weight",
    ),
    *suffix_rows("lora", "mid", ".lora_mid.weight"),  # the core of a Tucker decomposition, LyCORIS
)


@dataclass(frozen=True, slots=True)
class LoRA(ScaledAdapter):
    """A low-rank update; factors keep the file's dtype until they are used."""

    up: torch.Tensor  # (out, r) or (out, r, 1, 1)
    down: torch.Tensor  # (r, in) or (r, in, *kernel); with a core (r', in, 1, 1)
    mid: torch.Tensor | None  # (r, r', *kernel), the core of a Tucker decomposition
    scale: float

    id: ClassVar[str] = "lora"
    kind: ClassVar[str] = "LoRA"
    additive: ClassVar[bool] = True
    suffixes: ClassVar[tuple[Part, ...]] = _SUFFIXES
    folds: ClassVar[tuple[tuple[str, ...], ...]] = (("up",), ("down",))
    has_factors: ClassVar[bool] = True
    read_by: ClassVar[frozenset[Loader]] = frozenset(("comfyui", "diffusers", "peft"))

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
    def room(cls, shapes: Shapes, weight: Shape, **settings: Any) -> int:
        """Nothing: it stays in its factors, and a core is folded in the cheaper way round."""
        return 0

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> LoRA:
        return cls(parts["up"], parts["down"], parts.get("mid"), scale)

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        up, down = self._flat()
        return (up @ down * self.scale).reshape(weight.shape)

    def factors(self) -> Factors:
        up, down = self._flat()
        return up * self.scale, down

    def stored_factors(self) -> tuple[torch.Tensor, torch.Tensor, float] | None:
        return None if self.mid is not None else (self.up.flatten(1), self.down.flatten(1), self.scale)

    def parts(self) -> Parts:
        fields = {"up": self.up, "down": self.down, "mid": self.mid}
        present = {name: tensor for name, tensor in fields.items() if tensor is not None}
        return Parts(self.id, present, self.scale, self.down.shape[0])

    def cut(self, start: int, length: int, total: int) -> LoRA:
        return replace(self, up=self.up[start : start + length])

    def stacked(self, cuts: Sequence[Adapter]) -> LoRA:
        return replace(self, up=torch.cat([cut.up for cut in cuts if isinstance(cut, LoRA)]))

    def joined(self, pieces: Sequence[PlacedRows], total: int) -> LoRA | None:
        """Return up in blocks and down stacked; pieces that share their down share its rank."""
        loras = [piece.adapter for piece in pieces if isinstance(piece.adapter, LoRA)]
        if len(loras) < len(pieces):
            return None
        scales = {lora.scale for lora in loras}
        scale = scales.pop() if len(scales) == 1 else 1.0
        flat = [lora.without_core() for lora in loras]
        ups = [folded(up, lora.scale / scale) for (up, _), lora in zip(flat, loras, strict=True)]
        downs: list[torch.Tensor] = []
        blocks: list[torch.Tensor] = []
        for piece, up, (_, down) in zip(pieces, ups, flat, strict=True):
            place = next((at for at, other in enumerate(downs) if _same(other, down)), len(downs))
            if place == len(downs):
                downs.append(down)
                blocks.append(up.new_zeros((total, *up.shape[1:])))
            wide = summable_dtype(blocks[place], up)
            blocks[place] = blocks[place].to(wide).index_add(0, piece.positions(), up.to(wide))
        up = side_by_side(blocks, 1)
        dtypes = {one.dtype for one in ups}
        up = kept(up, dtypes.pop()) if len(dtypes) == 1 else up
        return LoRA(up, side_by_side(downs, 0), None, scale)

    def without_core(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (up, down) without scale, a Tucker core folded into down."""
        if self.mid is None:
            return self.up, self.down
        up, down = self._flat()
        ups = self.up if up.shape[1] == self.up.shape[1] else up.reshape(*up.shape, *self.up.shape[2:])
        return ups, down.reshape(down.shape[0], self.down.shape[1], *self.mid.shape[2:])

    @classmethod
    def suffix(cls, family: Family, field: str, param: str, module: str) -> str | None:
        if family == "peft" and param == "weight" and is_lookup(module) and field in LOOKUP_FACTORS:
            return LOOKUP_FACTORS[field]
        return written_suffix(cls.suffixes, family, field, param)

    @classmethod
    def as_layers(cls, fields: Mapping[str, torch.Tensor], shape: Shape, module: str) -> Mapping[str, torch.Tensor]:
        """PEFT's layers have no core, and the dimensions of the weight; an embedding's factors lie on their side."""
        up, down = LoRA(fields["up"], fields["down"], fields.get("mid"), 1.0).without_core()
        if is_lookup(module):
            return {"up": up.flatten(1).t().contiguous(), "down": down.flatten(1).t().contiguous()}
        ones = (1,) * (len(shape) - 2)
        return {"up": up.reshape(*up.shape[:2], *ones), "down": down.reshape(down.shape[0], *shape[1:])}

    @classmethod
    def unread(cls, loader: Loader, parts: Parts, file: Sequence[Parts]) -> str | None:
        return "DoRA of the input" if loader != "comfyui" and parts.magnitude_of_input else None

    def comfyui_fails(self) -> bool:
        """ComfyUI takes a core of two-dimensional kernels alone."""
        return self.mid is not None and self.mid.dim() != 4

    def _flat(self) -> Factors:
        """Return (up, down) in fp32 without scale, a Tucker core folded in: sum_j mid[r, j, k] · down[j, in]."""
        up, down = self.up.float().flatten(1), self.down.float().flatten(1)
        if self.mid is None:
            return up, down
        if is_folded_outward(tuple(self.mid.shape), up.shape[0], down.shape[1]):
            return sides(up.t(), down, self.mid)
        core = self.mid.float().transpose(0, 1).flatten(1)  # (r', r·kernel)
        folded = (down.t() @ core).reshape(down.shape[1], self.mid.shape[0], -1)  # (in, r, kernel)
        return up, folded.transpose(0, 1).flatten(1)


def _same(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.shape == second.shape and first.dtype == second.dtype and torch.equal(first, second)
