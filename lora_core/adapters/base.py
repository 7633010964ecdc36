"""What every adapter kind offers. A kind is one file with one class, listed in `KINDS`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

from ..lazytorch import torch

Shape = tuple[int, ...]


class Adapter(Protocol):
    """One module's update: a frozen value that depends on nothing but its tensors and the weight it is given.

    `strength` is not the adapter's business: W' = W + strength · delta(W), for every kind.
    """

    kind: ClassVar[str]
    additive: ClassVar[bool]  # the delta does not depend on the weight, so order does not matter

    @classmethod
    def delta_shape(cls, shapes: Mapping[str, Shape]) -> Shape:
        """Return the shape of the change from the parts' shapes; raises AdapterError if they contradict."""
        ...

    @classmethod
    def rank_of(cls, shapes: Mapping[str, Shape]) -> int | None:
        """Return the rank that divides alpha, or None for kinds without one."""
        ...

    @classmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float) -> Adapter: ...

    def delta(self, weight: torch.Tensor) -> torch.Tensor:
        """Return W' − W at strength 1 in fp32, in the shape of `weight`, which is left as it is."""
        ...

    def factors(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return (up [out, r], down [r, in·kernel]) in fp32, scale folded in; None for kinds without low rank."""
        ...

    def state(self) -> tuple[tuple[torch.Tensor | None, ...], float]:
        """Return (tensors, scale) from which `from_state` makes the same adapter: what moves between devices."""
        ...

    @classmethod
    def from_state(cls, tensors: tuple[torch.Tensor | None, ...], scale: float) -> Adapter: ...


def same_but_ones(shape: Shape, other: Shape) -> bool:
    """Tell whether two shapes differ only in trailing ones: a 1x1 convolution is a linear layer."""
    length = max(len(shape), len(other))
    return shape + (1,) * (length - len(shape)) == other + (1,) * (length - len(other))
