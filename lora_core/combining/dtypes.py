"""Number formats of a file that is made of several."""

from __future__ import annotations

from collections.abc import Sequence

from ..files.tensorheader import DTYPES
from ..lazytorch import torch
from ..lorafile import LoraFile
from ..rounding import DTYPE_NAMES


def dtype_of(name: str) -> torch.dtype:
    return getattr(torch, DTYPES[DTYPE_NAMES[name]][1])


def widest_dtype(loras: Sequence[LoraFile]) -> torch.dtype:
    """Return the number format that holds the values of all files' tensors: fp16 or bf16 if that is all, else fp32."""
    found = {info.dtype for lora in loras for name, info in lora.file.items() if not name.endswith(".alpha")}
    wide = found - {"F8_E4M3", "F8_E5M2"}  # fp16 holds these
    if wide <= {"F16"}:
        return torch.float16
    return torch.bfloat16 if found <= {"BF16"} else torch.float32
