"""What every adapter kind offers. A kind is one file with one frozen class, or a small family, listed in `KINDS`.

An adapter depends on nothing but its tensors and the weight that it is given. Strength is not its business:
W' = W + strength · delta(W), for every kind. The functions below work on any adapter, wrappers included, because its
fields are tensors, plain values, other adapters, and tuples of these.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, TypeVar

from ..errors import AdapterError
from ..lazytorch import torch
from .numbers import holds_zeros

Shape = tuple[int, ...]  # of a change: 0 stands for a size that the parts do not tell
Shapes = Mapping[str, Shape]  # field of a part -> its shape

AnyAdapter = TypeVar("AnyAdapter", bound="Adapter")


@dataclass(frozen=True, slots=True)
class Adapter(ABC):
    """One module's update."""

    kind: ClassVar[str]
    additive: ClassVar[bool] = False  # the delta does not depend on the weight, so order does not matter

    @abstractmethod
    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        """Return W' - W at strength 1 in fp32, in the shape of `weight`, which is left as it is."""

    def factors(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return (up [out, r], down [r, in·kernel]) in fp32, scale folded in; None for kinds without low rank."""
        return None

    def cut(self, start: int, length: int, total: int) -> Adapter:
        """Return the same update of rows [start, start + length) of `total`, which fill a weight of their own."""
        raise AdapterError(f"{self.kind} mixes the rows of a fused weight, so it can't be applied to a part of them")

    def is_zero(self) -> bool:
        """Tell, from the tensors alone, whether the delta is zero on every weight; a cautious no where they don't."""
        return False

    def comfyui_change(self, weight: torch.Tensor, strength: float) -> torch.Tensor:
        """Return the change that ComfyUI's own loader makes, for kinds that it reads; others change as published."""
        return strength * self.delta(weight)

    def comfyui_fails(self) -> bool:
        """Tell whether ComfyUI's own loader raises for this adapter, and so leaves the weight as it is."""
        return False


@dataclass(frozen=True, slots=True)
class StoredAdapter(Adapter):
    """A kind that files hold, part by part; the other adapters wrap one."""

    @classmethod
    @abstractmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        """Return the shape of the change from the parts' shapes; raises AdapterError if they contradict."""

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape, **settings: Any) -> bool:
        """Tell whether an adapter of these parts can change a parameter of the shape `weight`."""
        return fits_shape(cls.delta_shape(shapes), weight)

    @classmethod
    def rank_of(cls, shapes: Shapes) -> int | None:
        """Return the rank that divides alpha, or None for kinds that alpha does not scale."""
        return None

    @classmethod
    @abstractmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> Adapter:
        """Make the adapter; `settings` are what a kind needs to know beyond tensors, e.g. OFT its constraint."""


@dataclass(frozen=True, slots=True)
class ScaledAdapter(StoredAdapter):
    """A kind whose whole delta is multiplied by `scale`, its last field, and by each of its tensors."""

    def is_zero(self) -> bool:
        return self.scale == 0 or any(map(holds_zeros, tensors_of(self)))  # pyright: ignore[reportAttributeAccessIssue]

    def comfyui_change(self, weight: torch.Tensor, strength: float) -> torch.Tensor:
        """Strength · scale is one number there, rounded once."""
        return replace(self, scale=strength * self.scale).delta(weight)  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]


# Any adapter as plain values, and back


def packed(adapter: Adapter) -> tuple[Any, ...]:
    """Return (class, fields) as nested tuples of tensors and plain values, from which `unpacked` makes it again."""
    return (type(adapter), *(_packed_value(getattr(adapter, field.name)) for field in fields(adapter)))


def unpacked(values: tuple[Any, ...]) -> Adapter:
    kind, *rest = values
    return kind(*map(_unpacked_value, rest))


def tensors_of(adapter: Adapter) -> Iterator[torch.Tensor]:
    """Yield the tensors of the adapter and of those that it wraps."""
    yield from _tensors_in(packed(adapter))


def with_tensors(adapter: AnyAdapter, change: Callable[[torch.Tensor], torch.Tensor]) -> AnyAdapter:
    """Return the adapter with each of its tensors changed."""
    return unpacked(_mapped(packed(adapter), change))  # pyright: ignore[reportReturnType]


def moved(adapter: AnyAdapter, device: torch.device) -> AnyAdapter:
    """Return the adapter with its tensors on `device`; itself if they are there."""
    if all(tensor.device == device for tensor in tensors_of(adapter)):
        return adapter
    return with_tensors(adapter, lambda tensor: tensor.to(device, non_blocking=True))


def _packed_value(value: Any) -> Any:
    if isinstance(value, Adapter):
        return packed(value)
    return tuple(map(_packed_value, value)) if isinstance(value, tuple) else value


def _unpacked_value(value: Any) -> Any:
    if not isinstance(value, tuple):
        return value
    if value and isinstance(value[0], type):
        return unpacked(value)
    return tuple(map(_unpacked_value, value))


def _tensors_in(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _tensors_in(item)


def _mapped(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return change(value)
    return tuple(_mapped(item, change) for item in value) if isinstance(value, tuple) else value


# Shapes


def same_but_ones(shape: Shape, other: Shape) -> bool:
    """Tell whether two shapes differ only in trailing ones: a 1x1 convolution is a linear layer."""
    length = max(len(shape), len(other))
    return shape + (1,) * (length - len(shape)) == other + (1,) * (length - len(other))


def fits_shape(shape: Shape, weight: Shape) -> bool:
    """Tell whether a change of this shape is one of `weight`: a matrix may hold a convolution's [out, in·kernel]."""
    if same_but_ones(shape, weight):
        return True
    return len(shape) == 2 and len(weight) > 2 and shape == (weight[0], math.prod(weight[1:]))


def required(shapes: Shapes, *names: str) -> tuple[Shape, ...]:
    """Return the shapes of the parts `names`; raises AdapterError if one is missing or holds no numbers."""
    missing = [name for name in names if name not in shapes]
    if missing:
        present = " and ".join(name for name in names if name in shapes)
        raise AdapterError(f"has {present or 'no part'} without {' and '.join(missing)}")
    empty = [f"{name} {list(shapes[name])}" for name in names if 0 in shapes[name]]
    if empty:
        raise AdapterError(f"holds no numbers: {', '.join(empty)}")
    return tuple(shapes[name] for name in names)
