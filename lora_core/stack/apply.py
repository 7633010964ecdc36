"""A stack of adapters on one weight: the one function that the live node, the merge and the tests share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..adapters import Adapter, moved
from ..algebra.products import Product, add_products
from ..algebra.rounding import SampledRows
from ..lazytorch import torch
from ..naming.targets import Target
from ..options import Semantics


@dataclass(frozen=True, slots=True)
class Placed:
    """An adapter with its target, its strength, and a name for messages."""

    adapter: Adapter
    target: Target
    strength: float
    name: str = ""


def apply_stack(
    weight: torch.Tensor,
    stack: Iterable[Placed],
    semantics: Semantics = "paper",
    *,
    out: torch.Tensor | None = None,
    sampled: SampledRows | None = None,
) -> torch.Tensor:
    """Return `weight` with the stack applied in order, as a new fp32 tensor; the caller rounds once.

    Low-rank updates of one target become a single product [s1·up1 | s2·up2 | …] · [down1; down2; …]. That changes the
    order of sums only, so an adapter that depends on the running weight first waits for what came before it.
    `semantics="comfyui"` makes one change after the other instead, with the formulas and the roundings of ComfyUI's
    own loader in fp32. A Reshape makes the result larger than `weight`.

    `out`, which may be `weight` itself, takes the result instead, rounded once into its dtype. Where a Reshape makes
    the result larger, a new tensor of that dtype is returned. `sampled` is given the sums, before they are rounded.
    """
    running = _Running(weight, out)
    for placed in stack:
        if placed.strength == 0:
            continue
        adapter = moved(placed.adapter, weight.device)
        if adapter.new_shape is not None:
            running.replace(adapter.padded(running.settled()))
            adapter = adapter.on_padded()
        factors = adapter.factors() if semantics == "paper" else None
        if factors is not None:
            up, down = factors
            running.waiting.append(Product.at(placed.target, up * placed.strength, down))
            continue
        value = running.value() if adapter.additive else running.settled()
        part = placed.target.take(value)
        placed.target.put(value, part.add_(_change(adapter, part, placed.strength, semantics)))
    return running.finished(sampled)


def _change(adapter: Adapter, weight: torch.Tensor, strength: float, semantics: Semantics) -> torch.Tensor | float:
    if semantics == "paper":
        return strength * adapter.delta(weight)
    return 0.0 if adapter.comfyui_fails() else adapter.comfyui_change(weight, strength)


class _Running:
    """The weight so far: as it was given, or in fp32 from the moment that it is needed, and what waits to be added."""

    def __init__(self, weight: torch.Tensor, out: torch.Tensor | None) -> None:
        self.waiting: list[Product] = []
        self._weight, self._out = weight, out
        self._value: torch.Tensor | None = None

    def value(self) -> torch.Tensor:
        """Return the weight in fp32, to be changed in place; additive changes that wait are not in it yet."""
        if self._value is None:
            self._value = self._room()
            if self._value is not self._weight:
                self._value.copy_(self._weight)
        return self._value

    def settled(self) -> torch.Tensor:
        """Return the weight in fp32 with all that waited in it."""
        value = self.value()
        add_products(value, self.waiting, value)
        self.waiting.clear()
        return value

    def replace(self, value: torch.Tensor) -> None:
        """Go on with a weight of another shape, in fp32 and owned."""
        self._value = value

    def finished(self, sampled: SampledRows | None) -> torch.Tensor:
        so_far = self._weight if self._value is None else self._value
        out = self._out_like(so_far)
        add_products(so_far, self.waiting, out, sampled)
        return out

    def _out_like(self, so_far: torch.Tensor) -> torch.Tensor:
        if self._out is None:
            return so_far if self._value is not None else self._room()
        if self._out.shape == so_far.shape:
            return self._out
        return torch.empty(so_far.shape, dtype=self._out.dtype, device=so_far.device)

    def _room(self) -> torch.Tensor:
        """Return an fp32 tensor like the weight: `out` if it is one."""
        if self._out is not None and self._out.dtype == torch.float32 and self._out.shape == self._weight.shape:
            return self._out
        return torch.empty(self._weight.shape, dtype=torch.float32, device=self._weight.device)
