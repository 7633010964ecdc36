"""GLoRA in PEFT's layout: W' = W + W * A + B and b' = b + b * D + E + W · C.

PEFT multiplies entry by entry where the paper and LyCORIS have a product of matrices. A part is a low-rank product, a
vector or a number, whatever the configuration says. A bias that depends on the weight (C) can't be applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from .peft import PeftAdapter, flat
from .shapes import Shape, Shapes
from .spelling import Part, suffix_rows

_PARTS = ("up", "down", "plain")  # fields of each of the two, after the letter


def _rows(kind: str, factor: str, term: str, param: str = "weight") -> tuple[Part, ...]:
    endings = {"up": ".Xd", "down": ".Xu", "plain": ".X"}
    letters = {"factor": factor, "term": term}
    return tuple(
        row
        for what, letter in letters.items()
        for field, ending in endings.items()
        for row in suffix_rows(kind, f"{what}_{field}", f".glora_{letter}{ending}", param=param)
    )


@dataclass(frozen=True, slots=True)
class PeftGLoRA(PeftAdapter):
    """It reads the parameter, so order matters in a stack."""

    factor: tuple[torch.Tensor, ...]  # (up [out, r], down [r, in]), or one tensor that broadcasts
    term: tuple[torch.Tensor, ...]

    id: ClassVar[str] = "peft_glora"
    kind: ClassVar[str] = "GLoRA"
    is_portable: ClassVar[bool] = True
    suffixes: ClassVar[tuple[Part, ...]] = (
        *_rows("peft_glora", "A", "B"),
        *_rows("peft_glora", "D", "E", param="bias"),
        *(Part(f".glora_{letter}.zeros", "peft_glora", f"no_{letter}") for letter in "CDE"),  # a part that is off
        *suffix_rows("peft_glora", "factor_plain", ".glora_A.zeros"),
        *suffix_rows("peft_glora", "term_plain", ".glora_B.zeros"),
    )

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        found = [_shape(shapes, what) for what in ("factor", "term")]
        known = [shape for shape in found if shape != (1,)]
        if len(set(known)) > 1:
            raise AdapterError(f"its parts are of {[list(shape) for shape in known]}")
        return known[0] if known else (0,)

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape, **settings: Any) -> bool:
        shape = cls.delta_shape(shapes)
        if shape == (0,):
            return True
        of_rows = len(shape) == 2 and shape[1] == 1 and len(weight) == 2 and shape[0] == weight[0]
        return of_rows or shape == weight

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> PeftGLoRA:
        factor, term = (
            tuple(parts[f"{what}_{part}"] for part in _PARTS if f"{what}_{part}" in parts)
            for what in ("factor", "term")
        )
        return cls(factor, term)

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        matrix = flat(weight) if weight.dim() > 1 else weight.float()
        change = matrix * _value(self.factor) + _value(self.term)
        return change.reshape(weight.shape)


def _shape(shapes: Shapes, what: str) -> Shape:
    """Return the shape that one of the two makes; raises AdapterError if it is not whole."""
    up, down, plain = (shapes.get(f"{what}_{part}") for part in _PARTS)
    if plain and not up and not down:
        return plain
    if not up or not down or plain or len(up) != 2 or len(down) != 2 or up[1] != down[0]:
        raise AdapterError(f"expected two factors or one tensor for each of its parts, found {dict(shapes)}")
    return (up[0], down[1])


def _value(parts: tuple[torch.Tensor, ...]) -> torch.Tensor:
    values = [part.float() for part in parts]
    return values[0] @ values[1] if len(values) == 2 else values[0]
