"""A stack of adapters on one weight: the one function that the live node, the merge and the tests share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .adapters import Adapter, Reshape, moved, tensors_of
from .errors import AdapterError
from .lazytorch import torch
from .options import Semantics
from .targets import Target


@dataclass(frozen=True, slots=True)
class Placed:
    """An adapter with its target, its strength, and a name for messages."""

    adapter: Adapter
    target: Target
    strength: float
    name: str = ""


def apply_stack(weight: torch.Tensor, stack: Iterable[Placed], semantics: Semantics = "paper") -> torch.Tensor:
    """Return `weight` with the stack applied in order, as a new fp32 tensor; the caller rounds once.

    Low-rank updates of one target become a single product [s₁·up₁ | s₂·up₂ | …] · [down₁; down₂; …]. That changes the
    order of sums only, so an adapter that depends on the running weight first waits for what came before it.
    `semantics="comfyui"` makes one change after the other instead, with the formulas and the roundings of ComfyUI's
    own loader in fp32. A Reshape makes the result larger than `weight`.
    """
    result = weight.to(torch.float32, copy=True)
    waiting: dict[Target, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    for placed in stack:
        if placed.strength == 0:
            continue
        adapter = moved(placed.adapter, result.device)
        if isinstance(adapter, Reshape):
            _add_products(result, waiting)
            result, adapter = adapter.padded(result), adapter.inner
        factors = adapter.factors() if semantics == "paper" else None
        if factors is not None:
            up, down = factors
            waiting.setdefault(placed.target, []).append((up * placed.strength, down))
            continue
        if not adapter.additive:
            _add_products(result, waiting)
        part = placed.target.take(result)
        placed.target.put(result, part + _change(adapter, part, placed.strength, semantics))
    _add_products(result, waiting)
    return result


def _change(adapter: Adapter, weight: torch.Tensor, strength: float, semantics: Semantics) -> torch.Tensor | float:
    if semantics == "paper":
        return strength * adapter.delta(weight)
    return 0.0 if adapter.comfyui_fails() else adapter.comfyui_change(weight, strength)


def check_finite(placed: Placed) -> None:
    """Raise AdapterError if a tensor of the adapter holds NaN or infinity."""
    for tensor in tensors_of(placed.adapter):
        if not bool(torch.isfinite(tensor.float()).all()):
            raise AdapterError(f"{placed.name}: holds NaN or infinity; the file is damaged or its training failed.")


def _add_products(weight: torch.Tensor, waiting: dict[Target, list[tuple[torch.Tensor, torch.Tensor]]]) -> None:
    """Add what waits to `weight` in place, one product for each target, and empty `waiting`."""
    for target, pairs in waiting.items():
        up = torch.cat([up for up, _ in pairs], dim=1)
        down = torch.cat([down for _, down in pairs], dim=0)
        part = target.take(weight)
        flat = part.reshape(up.shape[0], -1)
        flat.addmm_(up, down)
        target.put(weight, flat.view(part.shape))
    waiting.clear()
