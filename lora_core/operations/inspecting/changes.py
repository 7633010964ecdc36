"""The changes that layers make, as matrices: as factors where there are any, else whole."""

from __future__ import annotations

from typing import TypeAlias

from ...adapters import Adapter, Shape, tensors_of
from ...algebra.factored import Factors, inner
from ...algebra.svd import EXACT_SIDE
from ...errors import AdapterError
from ...lazytorch import torch
from ...naming.targets import Target
from .reference import AdapterLayer

Change: TypeAlias = "Factors | torch.Tensor"  # (out, in·kernel); a vector is a matrix of one column

NOT_FINITE = "NaN or infinity"
NEEDS_WEIGHT = "depends on the weight"


class UnmeasuredError(AdapterError):
    """A change that can't be told; the message is the reason alone, for a report."""


def adapter_change(layer: AdapterLayer, weight: torch.Tensor | None) -> Change:
    """Return what the whole adapter changes at strength 1; `weight` is what `Reference.weight` says.

    Raises UnmeasuredError for values that are not finite, and for kinds that depend on a weight that is not there.
    """
    adapter, shape = layer.lora.adapter(layer.spec), layer.shape
    if not all(bool(torch.isfinite(tensor.float()).all()) for tensor in tensors_of(adapter)):
        raise UnmeasuredError(NOT_FINITE)
    if adapter.new_shape is not None:
        weight = weight if weight is None else adapter.padded(weight)
        adapter, shape = adapter.on_padded(), adapter.new_shape
    factors = adapter.low_rank()
    if factors is None:
        return _matrix(_delta(adapter, shape, weight))
    return factors if is_low(factors) else factors[0] @ factors[1]


def is_low(factors: Factors) -> bool:
    """Tell whether the rank is low enough for factors to be quicker than their product."""
    short = min(factors[0].shape[0], factors[1].shape[1])
    return short <= EXACT_SIDE or factors[0].shape[1] <= short // 2


def on_tensor(change: Change, target: Target, shape: Shape) -> Change:
    """Return what of an adapter's `change` falls on its target, as a change of the whole tensor of this shape."""
    if target.rows:
        change = _rows(change, target.rows[0], target.shape[0])
    if target.swap_halves:
        half, rows = target.shape[0] // 2, target.shape[0]
        first, second = _rows(change, 0, half), _rows(change, half, rows - half)
        change = added(_laid(second, 0, rows), _laid(first, rows - half, rows))
    if target.transposed:
        change = change.t() if isinstance(change, torch.Tensor) else (change[1].t(), change[0].t())
    return change if target.start is None else _laid(change, target.start, shape[0])


def added(first: Change, second: Change) -> Change:
    """Return the sum of two changes of one tensor."""
    if isinstance(first, torch.Tensor) or isinstance(second, torch.Tensor):
        return dense(first) + dense(second)
    return torch.cat((first[0], second[0]), dim=1), torch.cat((first[1], second[1]))


def at_strength(change: Change, strength: float) -> Change:
    return change * strength if isinstance(change, torch.Tensor) else (change[0] * strength, change[1])


def dense(change: Change) -> torch.Tensor:
    return change if isinstance(change, torch.Tensor) else change[0] @ change[1]


def size_of(change: Change) -> tuple[int, int]:
    """Return (out, in·kernel)."""
    if isinstance(change, torch.Tensor):
        return change.shape[0], change.shape[1]
    return change[0].shape[0], change[1].shape[1]


def padded(change: Change, rows: int, columns: int) -> Change:
    """Return the change of a tensor that zeros pad to this size: a LoRA of the stack may widen it."""
    more = (0, columns - size_of(change)[1]), (0, rows - size_of(change)[0])
    pad = torch.nn.functional.pad
    if isinstance(change, torch.Tensor):
        return pad(change, (*more[0], *more[1]))
    return pad(change[0], (0, 0, *more[1])), pad(change[1], more[0])


def product_of(first: Change, second: Change) -> float:
    """Return <dW1, dW2>, summed in fp64."""
    if isinstance(first, torch.Tensor):
        if isinstance(second, torch.Tensor):
            return float((first * second).sum(dtype=torch.float64))
        first, second = second, first
    if isinstance(second, torch.Tensor):
        return float(((first[0].t() @ second) * first[1]).sum(dtype=torch.float64))
    return inner(first, second)


def _delta(adapter: Adapter, shape: Shape, weight: torch.Tensor | None) -> torch.Tensor:
    if weight is None and not (adapter.additive and 0 not in shape):
        raise UnmeasuredError(NEEDS_WEIGHT)
    return adapter.delta(torch.empty(shape) if weight is None else weight)


def _matrix(delta: torch.Tensor) -> Change:
    if delta.dim() < 2:
        return delta.reshape(-1, 1), torch.ones(1, 1)
    return delta.flatten(1)


def _rows(change: Change, start: int, length: int) -> Change:
    if isinstance(change, torch.Tensor):
        return change.narrow(0, start, length)
    return change[0].narrow(0, start, length), change[1]


def _laid(change: Change, start: int, rows: int) -> Change:
    """Return the change as that of a matrix of `rows`, zero around it."""
    own = size_of(change)[0]
    around = (0, 0, start, rows - start - own)
    pad = torch.nn.functional.pad
    if isinstance(change, torch.Tensor):
        return pad(change, around)
    return pad(change[0], around), change[1]
