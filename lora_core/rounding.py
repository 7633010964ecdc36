"""Number formats: what users call them, and the one rounding into them."""

from __future__ import annotations

from .lazytorch import torch

DTYPE_NAMES = {"fp32": "F32", "fp16": "F16", "bf16": "BF16", "fp8_e4m3fn": "F8_E4M3"}  # user's name -> header's


def round_to(value: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, int]:
    """Return fp32 `value` rounded to nearest in `dtype`, and how many entries had to be clamped to its range."""
    if dtype in (torch.float32, torch.float64, torch.bfloat16):  # these hold the whole range of fp32
        return value.to(dtype), 0
    limit = torch.finfo(dtype).max
    if value.numel():
        low, high = torch.aminmax(value)  # one pass; the common case ends here
        if -limit <= float(low) and float(high) <= limit:
            return value.to(dtype), 0
    clamped = int((value.abs() > limit).sum())
    return (value.clamp(-limit, limit) if clamped else value).to(dtype), clamped
