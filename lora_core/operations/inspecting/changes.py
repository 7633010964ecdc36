"""The changes that layers make, or why they can't be told."""

from __future__ import annotations

from ...adapters import Adapter, Shape, tensors_of
from ...algebra.change import Change
from ...algebra.factored import Factors
from ...algebra.svd import EXACT_SIDE
from ...errors import AdapterError
from ...lazytorch import torch
from .reference import AdapterLayer

NOT_FINITE = "NaN or infinity"
NEEDS_WEIGHT = "depends on the weight"
TOO_LARGE = "takes too much memory"


class UnmeasuredError(AdapterError):
    """A change that can't be told; the message is the reason alone, for a report."""


def adapter_change(layer: AdapterLayer, weight: torch.Tensor | None) -> Change:
    """Return what the whole adapter changes at strength 1; `weight` is what `Reference.weight` says.

    Raises UnmeasuredError for values that are not finite, for kinds that depend on a weight that is not there, and for
    shapes that take far too much memory.
    """
    try:
        layer.spec.check_room(layer.name, None if weight is None else tuple(weight.shape))
    except AdapterError as error:
        raise UnmeasuredError(TOO_LARGE) from error
    adapter, shape = layer.lora.adapter(layer.spec), layer.shape
    if not all(bool(torch.isfinite(tensor.float()).all()) for tensor in tensors_of(adapter)):
        raise UnmeasuredError(NOT_FINITE)
    if adapter.new_shape is not None:
        weight = weight if weight is None else adapter.padded(weight)
        adapter, shape = adapter.on_padded(), adapter.new_shape
    factors = adapter.low_rank()
    if factors is None:
        delta = _delta(adapter, shape, weight)
        return Change.whole(delta) if delta.dim() > 1 else Change((delta.reshape(-1, 1), torch.ones(1, 1)))
    change = Change(factors)
    return change if is_low(factors) else Change((change.dense(),))


def is_low(factors: Factors) -> bool:
    """Tell whether the rank is low enough for factors to be quicker than their product."""
    short, rank = min(factors[0].shape[0], factors[1].shape[1]), factors[0].shape[1]
    return rank <= (short if short <= EXACT_SIDE else short // 2)


def _delta(adapter: Adapter, shape: Shape, weight: torch.Tensor | None) -> torch.Tensor:
    if weight is None and not (adapter.additive and 0 not in shape):
        raise UnmeasuredError(NEEDS_WEIGHT)
    return adapter.delta(torch.empty(shape) if weight is None else weight)
