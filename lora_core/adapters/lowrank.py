"""Changes as factors: up · down of every additive kind whose rank its own tensors bound, without forming the delta."""

from __future__ import annotations

from ..algebra.svd import Svd, svd_of_dense, svd_of_product
from ..lazytorch import torch
from . import LoHa, LoKr, RowCut
from .base import Adapter, Shape

Factors = tuple["torch.Tensor", "torch.Tensor"]


def factors_of(adapter: Adapter) -> Factors | None:
    """Return (up (out, r), down (r, in·kernel)) in fp32 with the scale folded in, None where the delta must be formed.

    LoRA with or without a Tucker core has its own rank, and LoKr W1 kron W2 the product of both sides' ranks. LoHa
    (A1B1) * (A2B2) has r², unless that is more than any matrix of its shape needs.
    """
    if isinstance(adapter, LoHa):
        first = _sides(adapter.w1_a, adapter.w1_b, adapter.t1)
        second = _sides(adapter.w2_a, adapter.w2_b, adapter.t2)
        if first[0].shape[1] * second[0].shape[1] > min(first[0].shape[0], first[1].shape[1]):
            return None
        up = (first[0][:, :, None] * second[0][:, None, :]).flatten(1) * adapter.scale
        return up, (first[1][:, None, :] * second[1][None, :, :]).flatten(0, 1)
    if isinstance(adapter, LoKr):
        (a1, b1), (a2, b2) = kronecker_sides(adapter)
        # out is out1·out2 and in·kernel is in1·(in2·kernel): the flattened change is a Kronecker product too
        return torch.kron(a1, a2) * adapter.scale, torch.kron(b1, b2)
    if isinstance(adapter, RowCut):
        whole = factors_of(adapter.inner)
        return whole and (whole[0][adapter.start : adapter.start + adapter.length], whole[1])
    return adapter.factors()


def kronecker_sides(adapter: LoKr) -> tuple[Factors, Factors]:
    """Return factors (out, r), (r, in·kernel) of both sides of a LoKr in fp32; the scale is in neither."""
    return (
        _pair(adapter.w1, adapter.w1_a, adapter.w1_b, None),
        _pair(adapter.w2, adapter.w2_a, adapter.w2_b, adapter.t2),
    )


def _pair(
    whole: torch.Tensor | None, a: torch.Tensor | None, b: torch.Tensor | None, core: torch.Tensor | None
) -> Factors:
    """Return factors of one side of a Kronecker product, of the lowest rank that its parts tell."""
    if whole is None:
        assert a is not None and b is not None  # the adapter has seen to it
        return _sides(a, b, core)
    flat = whole.float().flatten(1)
    one = torch.eye(min(flat.shape), device=flat.device)
    return (one, flat) if flat.shape[0] <= flat.shape[1] else (flat, one)


def _sides(a: torch.Tensor, b: torch.Tensor, core: torch.Tensor | None) -> Factors:
    """Return a (out, r) and b (r, in·kernel) in fp32, a Tucker core (r, r, *kernel) folded into b."""
    if core is None:
        return a.float().flatten(1).contiguous(), b.float().flatten(1).contiguous()
    return a.float().t().contiguous(), torch.einsum("ij...,jq->iq...", core.float(), b.float()).flatten(1)


def svd_of(adapter: Adapter, shape: Shape, rank: int) -> Svd | None:
    """Return all singular values of an additive adapter's change, and the vectors of at least the first `rank`.

    `shape` is that of the weight. None for kinds without factors. Only a LoHa whose factors would be larger than the
    change itself is made dense.
    """
    if isinstance(adapter, LoKr):
        return _svd_of_kronecker(adapter, rank)
    factors = factors_of(adapter)
    if factors is not None:
        return svd_of_product(*factors, rank)
    if not isinstance(adapter, LoHa):
        return None
    dense = adapter.delta(torch.empty(shape)).flatten(1)
    return svd_of_dense(dense, min(dense.shape))


def _svd_of_kronecker(adapter: LoKr, rank: int) -> Svd:
    """The singular values of W1 kron W2 are the products of both sides', and its vectors the Kronecker products."""
    first, second = (svd_of_product(*sides) for sides in kronecker_sides(adapter))
    products = torch.outer(first.values, second.values).flatten() * abs(adapter.scale)
    values, order = products.sort(descending=True)
    i, j = order[:rank] // max(1, len(second.values)), order[:rank] % max(1, len(second.values))
    left = (first.left[:, None, i] * second.left[None, :, j]).flatten(0, 1)
    right = (first.right[i][:, :, None] * second.right[j][:, None, :]).flatten(1)
    values = values[values > 0]  # none if the scale is zero
    return Svd(left * (-1.0 if adapter.scale < 0 else 1.0), values, right, float(values.square().sum()))
