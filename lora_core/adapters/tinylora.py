"""TinyLoRA and UniLoRA: LoRAs whose few trained numbers a file has once for many modules, as PEFT has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from .lora import LoRA
from .peft import PeftLoRA, with_dimensions
from .shapes import Shape, Shapes
from .spelling import Part, suffix_rows
from .stored import Told


@dataclass(frozen=True, slots=True)
class TinyLoRA(PeftLoRA):
    """delta = B · (sum of v_i · P_i) · A, with B and A from the base's own singular vectors; once read it is a LoRA."""

    id: ClassVar[str] = "tinylora"
    kind: ClassVar[str] = "TinyLoRA"
    has_factors: ClassVar[bool] = False
    suffixes: ClassVar[tuple[Part, ...]] = (
        *suffix_rows("tinylora", "down", ".tinylora_A"),
        *suffix_rows("tinylora", "up", ".tinylora_B"),
        *suffix_rows("tinylora", "projections", ".tinylora_P"),  # (u, r, r)
        *suffix_rows("tinylora", "numbers", ".tinylora_v.0", shared=True),  # (u,)
        *suffix_rows("tinylora", "others", ".tinylora_v.1", shared=True),  # of a further group of modules
    )

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        up, down = with_dimensions(shapes, 2, "up", "down")
        (projections,) = with_dimensions(shapes, 3, "projections")
        (numbers,) = with_dimensions(shapes, 1, "numbers")
        if projections != (numbers[0], up[1], down[0]):
            raise AdapterError(
                f"A {list(down)}, B {list(up)}, P {list(projections)} and v {list(numbers)} do not fit each other"
            )
        return (up[0], *down[1:])

    @classmethod
    def settings_of(cls, shapes: Shapes, told: Told) -> dict[str, Any]:
        if "others" in shapes:
            raise AdapterError(
                "its numbers are those of several groups of layers, and only the order of the base's layers tells "
                "which are a layer's (TinyLoRA with weight_tying below 1); merge it with PEFT"
            )
        return {}

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> LoRA:
        between = torch.einsum("i,ijk->jk", parts["numbers"].float(), parts["projections"].float())
        return LoRA(parts["up"].float() @ between, parts["down"], None, 1.0)


@dataclass(frozen=True, slots=True)
class UniLoRA(PeftLoRA):
    """Each entry of the factors is one of the file's numbers times a scale; once read it is a LoRA."""

    id: ClassVar[str] = "unilora"
    kind: ClassVar[str] = "UniLoRA"
    has_factors: ClassVar[bool] = False
    flags: ClassVar[tuple[str, ...]] = ("down", "up")
    suffixes: ClassVar[tuple[Part, ...]] = (
        *suffix_rows("unilora", "down", ".unilora_indices_A"),
        *suffix_rows("unilora", "up", ".unilora_indices_B"),
        *suffix_rows("unilora", "of_down", ".unilora_scales_A"),
        *suffix_rows("unilora", "of_up", ".unilora_scales_B"),
        *suffix_rows("unilora", "numbers", ".unilora_theta_d", shared=True),
    )

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        up, down, of_up, of_down = with_dimensions(shapes, 2, "up", "down", "of_up", "of_down")
        with_dimensions(shapes, 1, "numbers")
        if up[1] != down[0] or (up, down) != (of_up, of_down):
            raise AdapterError(
                f"A {list(down)} with scales {list(of_down)} and B {list(up)} with {list(of_up)} do not fit each other"
            )
        return (up[0], down[1])

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> LoRA:
        numbers = parts["numbers"].float()
        places = {name: parts[name].long() for name in ("up", "down")}
        for found in places.values():
            if found.min() < 0 or found.max() >= len(numbers):
                raise AdapterError(f"UniLoRA has places outside its {len(numbers)} numbers")
        up, down = (numbers[found] * parts[f"of_{name}"].float() for name, found in places.items())
        return LoRA(up, down, None, 1.0)
