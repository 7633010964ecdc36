"""Single entries of a weight that were trained: SHiRA (arXiv:2406.13175) and Super-Tuning, as PEFT has them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from .lora import LoRA
from .numbers import holds_zeros
from .peft import PeftAdapter, is_linear_weight, number_option, with_dimensions
from .shapes import Shape, Shapes
from .spelling import Part, suffix_rows
from .stored import Told


@dataclass(frozen=True, slots=True)
class SHiRA(PeftAdapter):
    """delta has the values at their rows and columns, and zeros elsewhere; what is listed twice is summed."""

    values: torch.Tensor  # (entries,)
    places: torch.Tensor  # (2, entries): rows and columns

    id: ClassVar[str] = "shira"
    kind: ClassVar[str] = "SHiRA"
    additive: ClassVar[bool] = True
    flags: ClassVar[tuple[str, ...]] = ("places",)
    suffixes: ClassVar[tuple[Part, ...]] = (
        *suffix_rows("shira", "values", ".shira_weight"),
        *suffix_rows("shira", "places", ".shira_indices"),
    )

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        (values,) = with_dimensions(shapes, 1, "values")
        (places,) = with_dimensions(shapes, 2, "places")
        if places != (2, values[0]):
            raise AdapterError(f"holds {values[0]} values and places {list(places)}")
        return (0, 0)

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape, **settings: Any) -> bool:
        return is_linear_weight(weight) and shapes["values"][0] <= math.prod(weight)

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> SHiRA:
        return cls(parts["values"], parts["places"].long())  # on Windows PEFT saves them as fp32

    def is_zero(self) -> bool:
        return holds_zeros(self.values)

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        rows, columns = self.places
        inputs = weight[0].numel()
        if len(rows) and (rows.min() < 0 or rows.max() >= len(weight) or columns.min() < 0 or columns.max() >= inputs):
            raise AdapterError(f"{self.kind} has places outside a weight of shape {list(weight.shape)}")
        change = torch.zeros(weight.numel(), device=weight.device)
        return change.index_add_(0, rows * inputs + columns, self.values.float()).reshape(weight.shape)

    def cut(self, start: int, length: int, total: int) -> SHiRA:
        inside = (self.places[0] >= start) & (self.places[0] < start + length)
        places = self.places[:, inside]
        return replace(self, values=self.values[inside], places=torch.stack((places[0] - start, places[1])))


@dataclass(frozen=True, slots=True)
class SuperTuning(PeftAdapter):
    """delta has the values at their places in the flattened weight, and a LoRA beside them if there is one."""

    values: torch.Tensor  # (entries,)
    places: torch.Tensor  # (entries,)
    beside: LoRA | None

    id: ClassVar[str] = "supertuning"
    kind: ClassVar[str] = "Super-Tuning"
    additive: ClassVar[bool] = True
    flags: ClassVar[tuple[str, ...]] = ("places",)
    suffixes: ClassVar[tuple[Part, ...]] = (
        *suffix_rows("supertuning", "values", ".supertuning_values"),
        *suffix_rows("supertuning", "places", ".supertuning_indices"),
        *suffix_rows("supertuning", "up", ".supertuning_lora_B.weight"),
        *suffix_rows("supertuning", "down", ".supertuning_lora_A.weight"),
    )

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        values, places = with_dimensions(shapes, 1, "values", "places")
        if values != places:
            raise AdapterError(f"holds {values[0]} values and {places[0]} places")
        return LoRA.delta_shape(shapes) if {"up", "down"} & shapes.keys() else (0, 0)

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape, **settings: Any) -> bool:
        shape = cls.delta_shape(shapes)
        return is_linear_weight(weight) and shapes["values"][0] <= math.prod(weight) and shape in ((0, 0), weight[:2])

    @classmethod
    def settings_of(cls, shapes: Shapes, told: Told) -> dict[str, Any]:
        return {"factor": number_option(told, "lora_alpha") / shapes["down"][0]} if "down" in shapes else {}

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> SuperTuning:
        beside = LoRA(parts["up"], parts["down"], None, settings["factor"]) if "up" in parts else None
        return cls(parts["values"], parts["places"].long(), beside)

    def is_zero(self) -> bool:
        return holds_zeros(self.values) and (self.beside is None or self.beside.is_zero())

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        if len(self.places) and (self.places.min() < 0 or self.places.max() >= weight.numel()):
            raise AdapterError(f"{self.kind} has places outside a weight of shape {list(weight.shape)}")
        change = torch.zeros(weight.numel(), device=weight.device)
        change = change.index_add_(0, self.places, self.values.float()).reshape(weight.shape)
        return change if self.beside is None else change + self.beside.delta(weight)
