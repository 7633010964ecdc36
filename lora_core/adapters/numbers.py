"""What the numbers of an adapter are like: zeros, or what no training gives."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..errors import AdapterError
from ..lazytorch import torch

LARGEST = 1e9  # of tensors and scales; products of such numbers stay within fp32
MAX_RANK = 32_768


def holds_zeros(tensor: torch.Tensor) -> bool:
    """Tell whether every entry is zero."""
    return _extremes(tensor) == (0.0, 0.0)


def check_numbers(tensors: Iterable[torch.Tensor], where: str) -> None:
    """Raise AdapterError if a tensor of the adapter holds NaN, infinity, or what no training gives."""
    fault = _fault_of(tensors)
    if fault:
        raise AdapterError(f"{where}: {fault}; the file is damaged or its training failed.")


def _fault_of(tensors: Iterable[torch.Tensor]) -> str:
    """Return what is wrong with the numbers, for a message that goes on; empty if nothing is."""
    for tensor in tensors:
        low, high = _extremes(tensor)
        if not (math.isfinite(low) and math.isfinite(high)):
            return "holds NaN or infinity"
        if max(-low, high) > LARGEST:
            return f"holds numbers up to {max(-low, high):.0e}, above {LARGEST:.0e}"
    return ""


def _extremes(tensor: torch.Tensor) -> tuple[float, float]:
    """Return the lowest and the highest entry, NaN if there is one, 0 and 0 if there is none; one pass, no copy."""
    if not tensor.numel():
        return 0.0, 0.0
    is_plain = tensor.dtype in (torch.float32, torch.float16, torch.bfloat16)
    low, high = torch.aminmax(tensor if is_plain else tensor.float())
    return float(low), float(high)
