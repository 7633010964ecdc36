"""What an extraction reads: models of any origin, two of them compared, and what changed in one weight."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ...algebra.change import Change
from ...algebra.krylov import squared_norm
from ...arch.base import Shape
from ...files.tensorheader import TensorInfo
from ...lazytorch import torch
from ...naming.detection import FoundArch
from ...naming.keymap import KeyMap
from ...naming.targets import Target


@runtime_checkable
class ModelSource(Protocol):
    """A model with its weights: an open checkpoint, or one that ComfyUI has loaded."""

    @property
    def name(self) -> str: ...
    @property
    def arch(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def found(self) -> list[FoundArch]: ...
    @cached_property
    def keymap(self) -> KeyMap: ...
    @property
    def shapes(self) -> Mapping[str, Shape]: ...
    @property
    def paths(self) -> list[Path]:
        """Every file that is read."""
        ...

    @cached_property
    def codings(self) -> Counter[str]:
        """How many weights are stored as codes, by the format's name."""
        ...

    @property
    def warnings(self) -> list[str]: ...

    def info(self, key: str) -> TensorInfo: ...

    def tensor(self, key: str) -> torch.Tensor:
        """Return a tensor's values, which the caller does not change."""
        ...

    def check_unchanged(self) -> None: ...

    def described(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class WeightChange:
    """W' - W of one weight in fp32."""

    change: Change
    weight: torch.Tensor | None = None  # W in its own dtype, where it was asked for
    weight_square: float | None = None  # |W|_F², where it is known; of a part of W about its share

    def taken(self, target: Target) -> WeightChange:
        """Return the change of the part of the weight that a target is, as the target's adapter sees it."""
        weight = None if self.weight is None else target.take(self.weight)
        change, square = self.change.taken(target), self.weight_square
        if square is not None:
            square = square * math.prod(change.size) / math.prod(self.change.size)
        return WeightChange(change, weight, square)


class Comparison(Protocol):
    """A base and what was made of it."""

    @property
    def before(self) -> ModelSource: ...
    @property
    def name(self) -> str:
        """What was made of the base, as messages call it."""
        ...

    def is_comparable(self, key: str) -> bool:
        """Tell whether a tensor of the base has values, and a counterpart of the same shape."""
        ...

    def packed(self) -> list[str]:
        """Return the weights that can't be compared: another program holds them as codes."""
        ...

    def change(self, key: str, *, with_weight: bool) -> WeightChange | None:
        """Return what changed in a tensor of the base, None if nothing did; may hold NaN or infinity."""
        ...


def is_packed(model: ModelSource, key: str) -> bool:
    """Tell whether a weight holds no numbers that can be read, but codes; position ids and the like are no weights."""
    info = model.info(key)
    return not info.is_float and info.nbytes > 0 and len(info.shape) > 1 and key.endswith("weight")


def sum_of_squares(tensor: torch.Tensor) -> float:
    """Return |tensor|_F², summed in fp64; NaN or infinity if an entry is."""
    if not tensor.numel():
        return 0.0
    plain = tensor.float() if tensor.element_size() == 1 else tensor
    return squared_norm(plain.flatten(1) if plain.dim() > 1 else plain.reshape(-1, 1))
