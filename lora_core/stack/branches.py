"""A stack beside a weight instead of in it: y + B·(v * (A·x)), with all low-rank changes of a layer in one A and B.

The strengths v are a tensor that is read when the layer is called, so another strength changes no other number, and a
forward that was compiled or captured follows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..adapters.branch import Branch, KroneckerBranch
from ..algebra.products import Product
from ..lazytorch import torch
from ..naming.targets import Target
from .apply import Placed

Multiply = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]


@dataclass(frozen=True, slots=True)
class Layer:
    """How a layer uses its weight: a linear one on the last axis of its input, a convolution on the second."""

    multiply: Multiply  # (x, weight) -> what the layer makes of it with such a weight, without a bias
    is_convolution: bool = False
    groups: int = 1
    bias: torch.Tensor | None = None

    def rows_last(self, y: torch.Tensor) -> torch.Tensor:
        """Return an output with its rows as the last axis."""
        return y.movedim(1, -1) if self.is_convolution else y

    def rows_back(self, y: torch.Tensor) -> torch.Tensor:
        return y.movedim(-1, 1) if self.is_convolution else y


@dataclass(frozen=True, slots=True)
class Gain:
    """Rows of the layer's own output that are scaled, as DoRA and (IA)³ do."""

    rows: torch.Tensor  # (out,), zero for those that are not
    owner: int


@dataclass(frozen=True, slots=True)
class PlacedKronecker:
    """A Kronecker product on a run of the weight's rows."""

    w1: torch.Tensor
    w2: torch.Tensor
    start: int
    owner: int

    def added(self, x: torch.Tensor, layer: Layer) -> torch.Tensor:
        """Return (w1 kron w2)·x with the rows last: w2 on each part of the input, and w1 between the parts."""
        inputs = self.w1.shape[1]
        if layer.is_convolution:
            parts = x.unflatten(1, (inputs, -1))
            made = layer.multiply(parts.flatten(0, 1), self.w2)
            made = made.unflatten(0, (x.shape[0], inputs))  # (N, in1, out2, *space)
            return torch.einsum("oi,ni...->no...", self.w1, made).flatten(1, 2).movedim(1, -1)
        made = torch.nn.functional.linear(x.unflatten(-1, (inputs, -1)), self.w2)  # (…, in1, out2)
        return torch.einsum("oi,...ij->...oj", self.w1, made).flatten(-2)


@dataclass(frozen=True, slots=True)
class LayerBranch:
    """What a stack adds beside one weight; `owner` says whose strength counts for each rank."""

    down: torch.Tensor  # (R, in, *kernel)
    up: torch.Tensor  # (out, R)
    owner: torch.Tensor  # (R,) whole numbers
    gain: Gain | None = None
    kroneckers: tuple[PlacedKronecker, ...] = ()

    def moved(self, device: torch.device | str, dtype: torch.dtype) -> LayerBranch:
        """Return it for inputs on this device and of this dtype."""
        gain = self.gain and replace(self.gain, rows=self.gain.rows.to(device, dtype))
        kroneckers = (replace(one, w1=one.w1.to(device, dtype), w2=one.w2.to(device, dtype)) for one in self.kroneckers)
        down, up = self.down.to(device, dtype), self.up.to(device, dtype)
        return LayerBranch(down, up, self.owner.to(device), gain, tuple(kroneckers))

    def added_to(self, y: torch.Tensor, x: torch.Tensor, strengths: torch.Tensor, layer: Layer) -> torch.Tensor:
        """Return the layer's output y of x with the change at these strengths, one for each owner."""
        strengths = strengths.to(y.dtype)
        result = layer.rows_last(y)
        own = result
        if self.gain is not None:
            base = own if layer.bias is None else own - layer.bias
            result = torch.addcmul(result, base, self.gain.rows * strengths[self.gain.owner])
        if len(self.owner):
            result = self._low_rank(result, x, strengths[self.owner], layer)
        for one in self.kroneckers:
            made = one.added(x, layer) * strengths[one.owner]
            rows = slice(one.start, one.start + made.shape[-1])
            result = result.clone() if result is own else result
            result[..., rows] += made
        return layer.rows_back(result)

    def _low_rank(self, y: torch.Tensor, x: torch.Tensor, ranks: torch.Tensor, layer: Layer) -> torch.Tensor:
        if not layer.is_convolution:
            made = torch.nn.functional.linear(x, self.down) * ranks
            flat = torch.addmm(y.reshape(-1, y.shape[-1]), made.reshape(-1, made.shape[-1]), self.up.t())
            return flat.view(y.shape)
        down = torch.cat([self.down] * layer.groups) if layer.groups > 1 else self.down
        made = layer.multiply(x, down).movedim(1, -1)  # (N, *space, groups·R)
        made = made.unflatten(-1, (layer.groups, -1)) * ranks
        up = self.up.unflatten(0, (layer.groups, -1))  # each group's rows of its own inputs
        return y + torch.einsum("...gr,gor->...go", made, up).flatten(-2)


def branch_of(weight: torch.Tensor, stack: Sequence[tuple[Placed, int]], groups: int = 1) -> LayerBranch | None:
    """Return what the stack adds beside a weight [out, in, *kernel], at the strengths of the owners beside each.

    A strength that the placed adapter has is a share of its owner's. None where it has no cheap form, or where an
    adapter depends on what others made of the weight: then the weight itself has to change. `weight` gives its values
    to the kinds that read it, in any number format; of a quantised one these are what its codes stand for.
    """
    if any(not placed.adapter.additive for placed, _ in stack[1:]):
        return None  # it would read the weight as those before it left it
    builder = _Builder(weight, groups)
    return builder.built() if all(builder.take(placed, owner) for placed, owner in stack) else None


class _Builder:
    def __init__(self, weight: torch.Tensor, groups: int) -> None:
        self._weight, self._groups = weight, groups
        self._products: list[tuple[Product, int]] = []
        self._gain: Gain | None = None
        self._kroneckers: list[PlacedKronecker] = []

    def take(self, placed: Placed, owner: int) -> bool:
        """Take an adapter up; tell whether it has a branch."""
        adapter, target = placed.adapter, placed.target
        branch = adapter.branch(target.take(self._weight)) if adapter.new_shape is None else None
        if isinstance(branch, KroneckerBranch):
            if self._groups > 1 or target.order or target.transposed:
                return False
            w1 = branch.w1 * placed.strength
            self._kroneckers.append(PlacedKronecker(w1, branch.w2, target.start or 0, owner))
            return True
        if branch is None or (target.transposed and branch.gain is not None):
            return False
        self._take_low_rank(branch, placed, owner)
        return True

    def _take_low_rank(self, branch: Branch, placed: Placed, owner: int) -> None:
        target, strength = placed.target, placed.strength
        if branch.factors is not None:
            up, down = branch.factors
            self._products.append((Product.at(target, up * strength, down), owner))
        if branch.gain is not None:
            self._gain = Gain(self._at_rows(target.laid(branch.gain * strength), target), owner)

    def _at_rows(self, rows: torch.Tensor, target: Target) -> torch.Tensor:
        """Return rows of a target where they lie in the whole weight, zero elsewhere."""
        whole = rows.new_zeros((self._weight.shape[0], *rows.shape[1:]))
        start = target.start or 0
        whole[start : start + len(rows)] = rows
        return whole

    def built(self) -> LayerBranch:
        ups, downs, owners = [], [], []
        for product, owner in self._products:
            balance = _balance(product)
            whole = product.up.new_zeros((self._weight.shape[0], product.up.shape[1]))
            whole[product.start : product.start + product.up.shape[0]] = product.up * balance
            ups.append(whole)
            downs.append(product.down / balance)
            owners += [owner] * whole.shape[1]
        form = self._weight.shape[1:]
        up = torch.cat(ups, 1) if ups else torch.zeros((self._weight.shape[0], 0))
        down = torch.cat(downs) if downs else torch.zeros((0, form.numel()))
        return LayerBranch(
            down.reshape(-1, *form), up, torch.tensor(owners, dtype=torch.long), self._gain, tuple(self._kroneckers)
        )


def _balance(product: Product) -> float:
    """Return the power of two that makes both factors of one size, so that neither underflows in fp16."""
    up, down = float(product.up.abs().max()), float(product.down.abs().max())
    return 2.0 ** round(math.log2(down / up) / 2) if 0 < up < math.inf and 0 < down < math.inf else 1.0
