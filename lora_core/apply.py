"""A stack of adapters on one weight: the one function that the live node, the merge and the tests share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .adapters import Adapter
from .errors import AdapterError
from .keymap import Target
from .lazytorch import torch
from .options import Semantics


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
    `semantics="comfyui"` adds one update after the other instead, with the roundings of ComfyUI's own loader in fp32.
    """
    result = weight.to(torch.float32, copy=True)
    if semantics == "comfyui":
        return _applied_one_by_one(result, stack)
    waiting: dict[Target, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    for placed in stack:
        if placed.strength == 0:
            continue
        factors = _on(result.device, placed.adapter).factors()
        if factors is not None:
            up, down = factors
            waiting.setdefault(placed.target, []).append((up * placed.strength, down))
            continue
        if not placed.adapter.additive:
            _add_products(result, waiting)
        part = placed.target.take(result)
        placed.target.put(result, part + placed.strength * _on(result.device, placed.adapter).delta(part))
    _add_products(result, waiting)
    return result


def _applied_one_by_one(weight: torch.Tensor, stack: Iterable[Placed]) -> torch.Tensor:
    for placed in stack:
        part = placed.target.take(weight)
        tensors, scale = _on(weight.device, placed.adapter).state()
        if placed.adapter.additive:  # strength · scale is one number there, rounded once
            delta = placed.adapter.from_state(tensors, placed.strength * scale).delta(part)
        else:
            delta = placed.strength * placed.adapter.from_state(tensors, scale).delta(part)
        placed.target.put(weight, part + delta)
    return weight


def check_finite(placed: Placed) -> None:
    """Raise AdapterError if a tensor of the adapter holds NaN or infinity."""
    tensors, _ = placed.adapter.state()
    for tensor in tensors:
        if tensor is not None and not bool(torch.isfinite(tensor.float()).all()):
            raise AdapterError(f"{placed.name}: holds NaN or infinity; the file is damaged or its training failed.")


def _on(device: torch.device, adapter: Adapter) -> Adapter:
    tensors, scale = adapter.state()
    if all(tensor is None or tensor.device == device for tensor in tensors):
        return adapter
    return adapter.from_state(tuple(t if t is None else t.to(device, non_blocking=True) for t in tensors), scale)


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
