"""Whole tensors: differences of a weight, a bias or a norm layer, and values that take a parameter's place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from ..naming.dialects import Family, Loader
from .base import Adapter, PlacedRows
from .parts import Parts, folded, kept, summable_dtype
from .shapes import Shape, Shapes, required
from .spelling import Part, suffix_rows, written_suffix
from .stored import AlphaUse, ScaledAdapter, StoredAdapter

# The norms that control LoRAs store whole, as a checkpoint does
_BFL_NORMS = ("query_norm", "key_norm")
_DIFFUSERS_NORMS = ("norm_q", "norm_k", "norm_added_q", "norm_added_k")


def _whole_norms(ending: str, *names: str) -> tuple[Part, ...]:
    return tuple(Part(f".{name}{ending}", "set", "value", keeps=f".{name}", in_lora=True) for name in names)


@dataclass(frozen=True, slots=True)
class FullDifference(ScaledAdapter):
    """delta = scale · diff; scale is 1 but for the bias of a LoRA's up layer, which PEFT scales with the LoRA."""

    diff: torch.Tensor  # in the shape of the parameter
    scale: float = 1.0

    id: ClassVar[str] = "full"
    kind: ClassVar[str] = "full difference"
    additive: ClassVar[bool] = True
    is_whole: ClassVar[bool] = True
    difference: ClassVar[str] = "full"
    alpha: ClassVar[AlphaUse] = "none"
    suffixes: ClassVar[tuple[Part, ...]] = (
        *suffix_rows("full", "diff", ".diff", ".diff_param"),
        *suffix_rows("full", "diff", ".diff_b", param="bias"),
        *suffix_rows("full", "diff", ".diff_m", param="modulation"),  # Wan distills
    )

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        if "diff" not in shapes:
            raise AdapterError("has no difference tensor")
        return shapes["diff"]

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> FullDifference:
        return cls(parts["diff"], scale)

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        return self.diff.float().reshape(weight.shape) * self.scale

    def cut(self, start: int, length: int, total: int) -> FullDifference:
        return replace(self, diff=self.diff[start : start + length])

    def stacked(self, cuts: Sequence[Adapter]) -> FullDifference:
        return replace(self, diff=torch.cat([cut.diff for cut in cuts if isinstance(cut, FullDifference)]))

    def joined(self, pieces: Sequence[PlacedRows], total: int) -> FullDifference | None:
        """Return the differences laid into zeros."""
        found = [piece.adapter for piece in pieces if isinstance(piece.adapter, FullDifference)]
        if len(found) < len(pieces):
            return None
        values = [folded(item.diff, item.scale) for item in found]
        dtype = summable_dtype(*values)
        whole = torch.zeros((total, *values[0].shape[1:]), dtype=dtype)
        for piece, value in zip(pieces, values, strict=True):
            whole = whole.index_add(0, piece.positions(), value.to(dtype))
        dtypes = {value.dtype for value in values}
        return replace(self, diff=kept(whole, dtypes.pop()) if len(dtypes) == 1 else whole, scale=1.0)

    def parts(self) -> Parts:
        return Parts(self.difference, {"diff": folded(self.diff, self.scale)})

    def change_square(self) -> float:
        return float(self.diff.float().square().sum()) * self.scale**2


@dataclass(frozen=True, slots=True)
class NormDifference(FullDifference):
    """A full difference of a normalisation layer's weight or bias (LyCORIS `train_norm`)."""

    id: ClassVar[str] = "norm"
    kind: ClassVar[str] = "norm"
    difference: ClassVar[str] = "norm"
    is_wrapped: ClassVar[bool] = False
    suffixes: ClassVar[tuple[Part, ...]] = (
        *suffix_rows("norm", "diff", ".w_norm"),
        *suffix_rows("norm", "diff", ".b_norm", param="bias"),
    )


@dataclass(frozen=True, slots=True)
class BiasDifference(FullDifference):
    """A full difference of the bias beside a LoRA, scaled with it."""

    id: ClassVar[str] = "bias"
    kind: ClassVar[str] = "bias"
    scaled_with: ClassVar[str] = "lora"
    folds: ClassVar[tuple[tuple[str, ...], ...]] = (("diff",),)
    is_wrapped: ClassVar[bool] = False
    suffixes: ClassVar[tuple[Part, ...]] = suffix_rows("bias", "diff", ".lora_B.bias", ".lora_up.bias", param="bias")
    read_by: ClassVar[frozenset[Loader]] = frozenset(("comfyui", "diffusers", "peft"))

    @classmethod
    def suffix(cls, family: Family, field: str, param: str, module: str) -> str | None:
        """For kohya it is the difference of any bias."""
        return ".diff_b" if family == "kohya" else ".lora_B.bias"

    @classmethod
    def unread(cls, loader: Loader, parts: Parts, file: Sequence[Parts]) -> str | None:
        """PEFT and diffusers read a bias beside every LoRA, or beside none."""
        loras = sum(other.kind == cls.scaled_with for other in file)
        is_everywhere = sum(other.kind == cls.id for other in file) == loras
        return None if loader == "comfyui" or is_everywhere else "bias of some layers only"


@dataclass(frozen=True, slots=True)
class SetValue(StoredAdapter):
    """W' = value: ComfyUI's `set_weight`, norms of control LoRAs (Flux.1 Canny and Depth), what PEFT trained whole."""

    value: torch.Tensor  # in the shape of the parameter

    id: ClassVar[str] = "set"
    kind: ClassVar[str] = "set"
    is_whole: ClassVar[bool] = True
    is_wrapped: ClassVar[bool] = False
    suffixes: ClassVar[tuple[Part, ...]] = (
        *suffix_rows("set", "value", ".set_weight"),
        *_whole_norms(".scale", *_BFL_NORMS),
        *_whole_norms(".weight", *_DIFFUSERS_NORMS),
    )

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        return required(shapes, "value")[0]

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> SetValue:
        return cls(parts["value"])

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        return self.value.float().reshape(weight.shape) - weight.float()

    def cut(self, start: int, length: int, total: int) -> SetValue:
        return replace(self, value=self.value[start : start + length])

    def stacked(self, cuts: Sequence[Adapter]) -> SetValue:
        return replace(self, value=torch.cat([cut.value for cut in cuts if isinstance(cut, SetValue)]))

    def parts(self) -> Parts:
        return Parts(self.id, {"value": self.value})

    @classmethod
    def suffix(cls, family: Family, field: str, param: str, module: str) -> str | None:
        """Diffusers reads its norms whole beside a LoRA."""
        if family == "peft" and module.endswith(_DIFFUSERS_NORMS):
            return ".weight"
        return written_suffix(cls.suffixes, family, field, param)

    def comfyui_change(self, weight: torch.Tensor, strength: float) -> torch.Tensor:
        """The value is copied there whatever the strength."""
        return self.delta(weight)
