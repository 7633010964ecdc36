"""Quantised formats as ComfyUI stores them: the values that codes and scales stand for, and fp8 codes of values.

Layouts: ComfyUI `comfy/quant_ops.py` and the comfy_kitchen package; the tests in tests/host compare with both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from ..algebra.rounding import round_stochastically, round_to
from ..errors import FileFormatError
from ..lazytorch import torch

Scales = Mapping[str, "torch.Tensor"]  # by the names of the current layout, e.g. "weight_scale"
Config = Mapping[str, Any]  # what a layer's `comfy_quant` says

E2M1_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # of the codes 0 to 7; bit 3 is the sign
NVFP4_BLOCK, MXFP8_BLOCK = 16, 32
MAX_HADAMARD = 1024  # columns of a group whose matrix may be larger than the weight


@dataclass(frozen=True, slots=True)
class Format:
    """A way to store a weight as codes with scales."""

    codes: frozenset[str]  # dtypes of the codes, as headers name them
    scales: tuple[str, ...]  # that must be there
    values: Callable[[torch.Tensor, Scales, Config], torch.Tensor]
    per_code: int = 1  # values in one code, along the last axis


def values_of(form: Format, codes: torch.Tensor, scales: Scales, config: Config) -> torch.Tensor:
    """Return a weight's fp32 values. A `pre_quant_scale` of the layer's input is folded into the columns."""
    values = form.values(codes, scales, config)
    columns = scales.get("pre_quant_scale")
    if columns is None:
        return values
    if columns.dim() > values.dim() or columns.numel() not in (1, values.shape[-1]):  # else it would widen the weight
        raise FileFormatError(f"the pre_quant_scale of {tuple(columns.shape)} does not fit {tuple(values.shape)}")
    return values * columns.float()


def fp8_codes(values: torch.Tensor, scale: torch.Tensor, codes: torch.dtype, seed: int | None) -> tuple[Any, Any]:
    """Return (codes, scale) of fp32 `values`: a new scale for the largest, of the shape and dtype of `scale`.

    With a seed, rounding is stochastic: up or down at random, right on average. Without one it is to nearest.
    """
    axes = tuple(range(1, values.dim())) if scale.numel() > 1 else tuple(range(values.dim()))
    if values.numel():
        largest = torch.maximum(values.amax(dim=axes, keepdim=True), -values.amin(dim=axes, keepdim=True))
    else:
        largest = values.new_ones(())
    new = (largest / torch.finfo(codes).max).to(scale.dtype)
    new = torch.where(new == 0, torch.ones_like(new), new)
    scaled = values / new.float()
    rounded = round_to(scaled, codes)[0] if seed is None else round_stochastically(scaled, codes, seed)
    return rounded, new.reshape(scale.shape)


def _fp8_values(codes: torch.Tensor, scales: Scales, config: Config) -> torch.Tensor:
    return codes.float() * _row_scale(codes, scales.get("weight_scale", torch.ones(())))


def _int8_values(codes: torch.Tensor, scales: Scales, config: Config) -> torch.Tensor:
    values = codes.float() * _row_scale(codes, scales["weight_scale"])
    params = config.get("params")
    config = {**(params if isinstance(params, dict) else {}), **config}
    return _rotated(values, config.get("convrot_groupsize", 256)) if config.get("convrot") else values


def _mxfp8_values(codes: torch.Tensor, scales: Scales, config: Config) -> torch.Tensor:
    exponents = _unblocked(scales["weight_scale"].view(torch.uint8), codes.shape[0], codes.shape[1], MXFP8_BLOCK)
    powers = torch.ldexp(torch.ones(exponents.shape), exponents.int() - 127)
    powers = torch.where(exponents == 0, torch.zeros(()), powers)  # a block of zeros
    return (codes.float().unflatten(1, (-1, MXFP8_BLOCK)) * powers.unsqueeze(2)).flatten(1)


def _nvfp4_values(codes: torch.Tensor, scales: Scales, config: Config) -> torch.Tensor:
    table = torch.tensor([*E2M1_VALUES, *(-value for value in E2M1_VALUES)])
    values = table[torch.stack((codes >> 4, codes & 15), dim=2).flatten(1).int()]
    block_scales = scales["weight_scale"].view(torch.float8_e4m3fn)
    blocks = _unblocked(block_scales, codes.shape[0], values.shape[1], NVFP4_BLOCK).float()
    blocks = blocks * scales["weight_scale_2"].float().reshape(())
    return (values.unflatten(1, (-1, NVFP4_BLOCK)) * blocks.unsqueeze(2)).flatten(1)


def _row_scale(codes: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    if scale.numel() == 1:
        return scale.float().reshape(())
    if codes.dim() < 2 or scale.shape not in ((codes.shape[0],), (codes.shape[0], 1)):
        raise FileFormatError(f"the scale of shape {tuple(scale.shape)} does not fit codes of {tuple(codes.shape)}")
    return scale.float().reshape(-1, *(1,) * (codes.dim() - 1))


def _unblocked(scales: torch.Tensor, rows: int, columns: int, block: int) -> torch.Tensor:
    """Return the scales of `rows` x (columns / block) blocks, stored in cuBLAS's tiles of 128 x 4.

    Within a tile, row 32·a + b and column c lie at [b][a][c].
    https://docs.nvidia.com/cuda/cublas/index.html#d-block-scaling-factors-layout
    """
    down, across = -(-rows // 128), -(-(columns // block) // 4)
    if columns % block or scales.numel() != down * across * 512:
        raise FileFormatError(f"the block scales of shape {tuple(scales.shape)} do not fit {rows} x {columns} values")
    tiles = scales.reshape(down, across, 32, 4, 4).permute(0, 3, 2, 1, 4)  # (down, a, b, across, c)
    return tiles.reshape(down * 128, across * 4)[:rows, : columns // block]


def _rotated(values: torch.Tensor, size: Any) -> torch.Tensor:
    """Return rows with each group of `size` columns turned by a Hadamard matrix, which is its own inverse."""
    powers = {4**power for power in range(1, 8)}
    if type(size) is not int or size not in powers or values.dim() != 2 or values.shape[1] % size:
        raise FileFormatError(f"groups of {size!r} columns do not fit codes of {tuple(values.shape)}")
    if size > MAX_HADAMARD and size * size > 16 * values.numel():
        raise FileFormatError(f"groups of {size} columns would need much more memory than {values.numel()} codes")
    return (values.unflatten(1, (-1, size)) @ _hadamard(size)).flatten(1)


@cache
def _hadamard(size: int) -> torch.Tensor:
    """Return ConvRot's symmetric orthogonal matrix: the Kronecker power of one of order 4."""
    four = 1 - 2 * torch.eye(4).flip(1)
    return four / 2 if size == 4 else torch.kron(_hadamard(size // 4), four / 2)


_FP8 = Format(frozenset({"F8_E4M3", "F8_E5M2"}), (), _fp8_values)
FORMATS: dict[str, Format] = {
    "float8_e4m3fn": _FP8,
    "float8_e5m2": _FP8,
    "mxfp8": Format(frozenset({"F8_E4M3"}), ("weight_scale",), _mxfp8_values),
    "nvfp4": Format(frozenset({"U8"}), ("weight_scale", "weight_scale_2"), _nvfp4_values, per_code=2),
    "int8_tensorwise": Format(frozenset({"I8"}), ("weight_scale",), _int8_values),
}
FP8_FORMATS = {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}  # by the codes' dtype, where nothing else tells

# Endings of keys that only these formats have -> what to call them
FOREIGN = {
    ".quant_state.bitsandbytes__nf4": "bitsandbytes NF4",
    ".quant_state.bitsandbytes__fp4": "bitsandbytes FP4",
    ".quant_map": "bitsandbytes 4-bit or 8-bit",
    ".absmax": "bitsandbytes 4-bit or 8-bit",
    ".SCB": "bitsandbytes int8",
    ".g_idx": "GPTQ",
    ".qzeros": "GPTQ or AWQ",
    ".qweight": "GPTQ, AWQ or SVDQuant",
    ".wscales": "SVDQuant (Nunchaku)",
    ".W_q": "HQQ",
    ".weight._data": "quanto",
    ".weight_scale_inv": "block-scaled fp8 (DeepSeek)",
    ".weight_packed": "compressed-tensors",
    ".weight_s_rel": "asym_w4a8_int8",
}
