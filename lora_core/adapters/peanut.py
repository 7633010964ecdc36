"""PEANuT: a small network makes the change from the weight itself, input by input.

Zhong et al., arXiv:2410.01870, as PEFT has it: layers of the network skip to each other as in a U-Net.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from .numbers import holds_zeros
from .peft import PeftAdapter, flat, is_linear_weight, number_option, with_dimensions
from .shapes import Shape, Shapes
from .spelling import Part, suffix_rows
from .stored import Told

_DEEPEST = 8
# As transformers calls them -> as PyTorch does
_ACTIVATIONS = {
    **{name: name for name in ("relu", "gelu", "silu", "tanh", "sigmoid", "leaky_relu", "mish")},
    "swish": "silu",
}
_NAMES = tuple(_ACTIVATIONS)


@dataclass(frozen=True, slots=True)
class PEANuT(PeftAdapter):
    """It reads the weight, so order matters in a stack."""

    first: torch.Tensor  # (r, out)
    encoders: tuple[torch.Tensor, ...]  # (r, r) each
    decoders: tuple[torch.Tensor, ...]
    last: torch.Tensor  # (out, r)
    activation: int  # of _NAMES
    scale: float

    id: ClassVar[str] = "peanut"
    kind: ClassVar[str] = "PEANuT"
    suffixes: ClassVar[tuple[Part, ...]] = (
        *suffix_rows("peanut", "first", ".peanut_A.weight"),
        *suffix_rows("peanut", "last", ".peanut_B.weight"),
        *(
            row
            for what in ("encoders", "decoders")
            for at in range(_DEEPEST)
            for row in suffix_rows("peanut", f"{what}{at}", f".peanut_{what}.{at}.weight")
        ),
    )

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        first, last = with_dimensions(shapes, 2, "first", "last")
        between = {name: shape for name, shape in shapes.items() if name not in ("first", "last")}
        depth = len(between) // 2
        wanted = {f"{what}{at}" for what in ("encoders", "decoders") for at in range(depth)}
        are_square = all(shape == (first[0], first[0]) for shape in between.values())
        if between.keys() != wanted or first != last[::-1] or not are_square:
            raise AdapterError(f"A {list(first)}, B {list(last)} and {len(between)} layers do not fit each other")
        return (first[1], 0)

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape, **settings: Any) -> bool:
        return is_linear_weight(weight) and weight[0] == shapes["first"][1]

    @classmethod
    def room(cls, shapes: Shapes, weight: Shape, **settings: Any) -> int:
        """The hidden layers, of all inputs."""
        return max(math.prod(weight), math.prod(weight[1:]) * shapes["first"][0] * (len(shapes) // 2))

    @classmethod
    def settings_of(cls, shapes: Shapes, told: Told) -> dict[str, Any]:
        name = told.option("act_fn")
        if name not in _NAMES:
            raise AdapterError(
                f"its configuration says act_fn: {str(name)[:60]}, only {', '.join(_NAMES)} are supported"
            )
        return {"activation": _NAMES.index(name), "factor": number_option(told, "scaling")}

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> PEANuT:
        depth = (len(parts) - 2) // 2
        encoders, decoders = (tuple(parts[f"{what}{at}"] for at in range(depth)) for what in ("encoders", "decoders"))
        return cls(parts["first"], encoders, decoders, parts["last"], settings["activation"], settings["factor"])

    def is_zero(self) -> bool:
        return self.scale == 0 or holds_zeros(self.last)

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        activation = getattr(torch.nn.functional, _ACTIVATIONS[_NAMES[self.activation]])
        hidden = activation(flat(weight).t() @ self.first.float().t())  # (in, r)
        skipped: list[torch.Tensor] = []
        for encoder in self.encoders:
            skipped.append(hidden)
            hidden = activation(hidden @ encoder.float().t())
        for decoder in self.decoders:
            hidden = activation(hidden @ decoder.float().t()) + skipped.pop()
        return (hidden @ self.last.float().t() * self.scale).t().reshape(weight.shape)
