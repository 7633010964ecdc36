"""Number formats of tensors: their names in a header, in torch and for users."""

from __future__ import annotations

from ..lazytorch import torch

# dtype name in the header -> (bytes of one element, attribute of torch)
DTYPES: dict[str, tuple[int, str]] = {
    "F64": (8, "float64"),
    "F32": (4, "float32"),
    "F16": (2, "float16"),
    "BF16": (2, "bfloat16"),
    "F8_E4M3": (1, "float8_e4m3fn"),
    "F8_E5M2": (1, "float8_e5m2"),
    "F8_E8M0": (1, "float8_e8m0fnu"),
    "I64": (8, "int64"),
    "I32": (4, "int32"),
    "I16": (2, "int16"),
    "I8": (1, "int8"),
    "U64": (8, "uint64"),
    "U32": (4, "uint32"),
    "U16": (2, "uint16"),
    "U8": (1, "uint8"),
    "BOOL": (1, "bool"),
    "C64": (8, "complex64"),
}
FLOAT_DTYPES = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})

DTYPE_NAMES = {"fp32": "F32", "fp16": "F16", "bf16": "BF16", "fp8_e4m3fn": "F8_E4M3"}  # user's name -> header's


def torch_dtype(name: str) -> torch.dtype:
    """Return the torch dtype that a header names."""
    return getattr(torch, DTYPES[name][1])


def dtype_name(dtype: torch.dtype) -> str:
    """Return the header's name of a torch dtype."""
    return next(name for name, (_, attribute) in DTYPES.items() if getattr(torch, attribute, None) is dtype)
