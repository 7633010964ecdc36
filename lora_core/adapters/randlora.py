"""RandLoRA: delta is a sum of random products, with trained weights, that together have full rank.

Albert et al., arXiv:2502.00987, as PEFT has it: with m the smaller side of the weight and m / r products,
delta or its transpose is scale · B · (lambda · A · gamma), whose r · n ranks are paired as they lie in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from .numbers import holds_zeros
from .peft import PeftAdapter, is_linear_weight, number_option, with_dimensions
from .shapes import Shape, Shapes
from .spelling import Part, suffix_rows
from .stored import Told


@dataclass(frozen=True, slots=True)
class RandLoRA(PeftAdapter):
    """A module's weights of the products with the random matrices of the file."""

    of_product: torch.Tensor  # lambda (r, n)
    of_side: torch.Tensor  # gamma (n, m)
    a: torch.Tensor  # (r, 1, at least m)
    b: torch.Tensor  # (at least the larger side, at least n, r)
    scale: float

    id: ClassVar[str] = "randlora"
    kind: ClassVar[str] = "RandLoRA"
    additive: ClassVar[bool] = True
    suffixes: ClassVar[tuple[Part, ...]] = (
        *suffix_rows("randlora", "of_product", ".randlora_lambda"),
        *suffix_rows("randlora", "of_side", ".randlora_gamma"),
        *suffix_rows("randlora", "a", ".randlora_A", shared=True),
        *suffix_rows("randlora", "b", ".randlora_B", shared=True),
    )

    @classmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        of_product, of_side = with_dimensions(shapes, 2, "of_product", "of_side")
        a, b = with_dimensions(shapes, 3, "a", "b")
        rank, number = of_product
        whole = of_side[0] == number and a[0] == b[2] == rank and a[1] == 1 and a[2] >= of_side[1] and b[1] >= number
        if not whole:
            raise AdapterError(
                f"lambda {list(of_product)}, gamma {list(of_side)}, A {list(a)} and B {list(b)} do not fit each other"
            )
        return (0, 0)

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape, **settings: Any) -> bool:
        return (
            is_linear_weight(weight) and min(weight[:2]) == shapes["of_side"][1] and max(weight[:2]) <= shapes["b"][0]
        )

    @classmethod
    def settings_of(cls, shapes: Shapes, told: Told) -> dict[str, Any]:
        return {"factor": number_option(told, "randlora_alpha") / shapes["of_product"][0]}

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> RandLoRA:
        return cls(parts["of_product"], parts["of_side"], parts["a"], parts["b"], settings["factor"])

    def is_zero(self) -> bool:
        return self.scale == 0 or holds_zeros(self.of_product) or holds_zeros(self.of_side)

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        outputs, inputs = weight.shape[0], weight[0].numel()
        smaller, larger = min(outputs, inputs), max(outputs, inputs)
        of_side = self.of_side.float()
        a = self.of_product.float()[:, :, None] * self.a[:, :, :smaller].float() * of_side  # (r, n, m)
        b = self.b[:larger, : len(of_side)].float()  # (larger, n, r)
        product = b.flatten(1) @ a.flatten(0, 1) * self.scale
        return (product if smaller == inputs else product.t()).reshape(weight.shape)
