"""Adapters as a product of two factors: those that files hold as factors, and LoHa and LoKr, which have such a form."""

from __future__ import annotations

from .adapters import LoHa, LoKr, RowCut
from .adapters.base import Adapter
from .lazytorch import torch


def factors_of(adapter: Adapter) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return (up [out, r], down [r, in·kernel]) in fp32, scale folded in, or None where the delta must be formed.

    A LoHa of rank r is a product of rank r², if that is not more than any matrix of its shape needs; a LoKr one of
    the product of its sides' ranks.
    """
    if isinstance(adapter, LoHa) and adapter.t1 is None and adapter.t2 is None:
        if adapter.w1_b.shape[0] * adapter.w2_b.shape[0] > min(adapter.w1_a.shape[0], adapter.w1_b[0].numel()):
            return None
        a1, b1, a2, b2 = (t.float().flatten(1) for t in (adapter.w1_a, adapter.w1_b, adapter.w2_a, adapter.w2_b))
        up = (a1[:, :, None] * a2[:, None, :]).flatten(1) * adapter.scale
        return up, (b1[:, None, :] * b2[None, :, :]).flatten(0, 1)
    if isinstance(adapter, LoKr) and adapter.t2 is None:
        (a1, b1), (a2, b2) = (
            _pair(adapter.w1, adapter.w1_a, adapter.w1_b),
            _pair(adapter.w2, adapter.w2_a, adapter.w2_b),
        )
        up = torch.kron(a1.contiguous(), a2.contiguous()) * adapter.scale
        inner = adapter.w2 if adapter.w2 is not None else adapter.w2_b
        kernel = tuple(inner.shape[2:]) if inner is not None else ()
        return up, _kron_kernel(b1, b2.reshape(b2.shape[0], -1, *kernel))
    if isinstance(adapter, RowCut):
        whole = factors_of(adapter.inner)
        return (whole[0].narrow(0, adapter.start, adapter.length), whole[1]) if whole else None
    return adapter.factors()


def _pair(
    whole: torch.Tensor | None, a: torch.Tensor | None, b: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return factors of one side of a Kronecker product, of the lowest rank that its parts tell."""
    if whole is None:
        assert a is not None and b is not None  # the adapter has seen to it
        return a.float().flatten(1), b.float().flatten(1)
    flat = whole.float().flatten(1)
    one = torch.eye(min(flat.shape), device=flat.device)
    return (one, flat) if flat.shape[0] <= flat.shape[1] else (flat, one)


def _kron_kernel(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return first (r₁, in₁) ⊗ second (r₂, in₂, *kernel) as (r₁·r₂, in₁·in₂·kernel)."""
    product = torch.einsum("ri,sj...->rsij...", first, second)
    return product.flatten(0, 1).flatten(1)
