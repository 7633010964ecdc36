"""What PEFT's own kinds have in common: their tensors mean something only beside PEFT's configuration."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from ..errors import AdapterError
from ..lazytorch import torch
from ..naming.dialects import Loader
from .lora import LoRA
from .shapes import Shape, Shapes, required
from .stored import AlphaUse, StoredAdapter, Told


@dataclass(frozen=True, slots=True)
class PeftAdapter(StoredAdapter):
    """A kind that PEFT alone writes and reads."""

    is_portable: ClassVar[bool] = False
    read_by: ClassVar[frozenset[Loader]] = frozenset()


@dataclass(frozen=True, slots=True)
class PeftLoRA(LoRA):
    """How PEFT's files hold a kind that is a LoRA once it is read; its scale is in the tensors and the settings."""

    alpha: ClassVar[AlphaUse] = "none"
    is_portable: ClassVar[bool] = False
    read_by: ClassVar[frozenset[Loader]] = frozenset()

    @classmethod
    def rank_of(cls, shapes: Shapes) -> int | None:
        return None


def flat(weight: torch.Tensor) -> torch.Tensor:
    """Return the weight in fp32 as a matrix [out, in]."""
    return weight.float().reshape(weight.shape[0], -1)


def is_linear_weight(weight: Shape) -> bool:
    """Tell whether a weight is a linear layer's; a 1x1 convolution is one."""
    return len(weight) > 1 and math.prod(weight[2:]) == 1


def with_dimensions(shapes: Shapes, dimensions: int, *names: str) -> tuple[Shape, ...]:
    """Return the shapes of the parts `names`; raises AdapterError if one is missing or has other dimensions."""
    found = required(shapes, *names)
    for name, shape in zip(names, found, strict=True):
        if len(shape) != dimensions:
            raise AdapterError(f"expected {name} of {dimensions} dimensions, found {list(shape)}")
    return found


def number_option(told: Told, name: str, lowest: float = -math.inf) -> float:
    """Return a number of PEFT's configuration; raises AdapterError if it has none, or a smaller one."""
    value = told.option(name)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < lowest:
        raise AdapterError(_told(told, name, value, "a number"))
    return value


def whole_option(told: Told, name: str, lowest: int = 0) -> int:
    """Return a whole number of PEFT's configuration; raises AdapterError as `number_option`."""
    value = number_option(told, name, lowest)
    if value != int(value) or value >= 1 << 63:
        raise AdapterError(_told(told, name, value, "a whole number"))
    return int(value)


def choice_option(told: Told, name: str, choices: Collection[str | bool]) -> str | bool:
    """Return a setting of PEFT's configuration; raises AdapterError if it is none of `choices`."""
    value = told.option(name)
    if not isinstance(value, (str, bool)) or value not in choices:
        raise AdapterError(_told(told, name, value, " or ".join(str(choice) for choice in choices)))
    return value


def _told(told: Told, name: str, value: object, expected: str) -> str:
    if not told.is_peft:
        return f"its tensors mean nothing without {name} of PEFT's adapter_config.json, which is not beside the file"
    return f"its configuration says {name}: {str(value)[:60]}, expected {expected}"
