"""Any adapter, wrappers included, as nested tuples of tensors and plain values, and back.

Its fields are tensors, plain values, other adapters, and tuples of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, TypeVar

from ..lazytorch import torch
from .base import Adapter

AnyAdapter = TypeVar("AnyAdapter", bound="Adapter")


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
