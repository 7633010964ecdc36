"""Makes test files: tiny models that ComfyUI loads, random LoRA files, and true-size checkpoints that hold no data."""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.manifests import Shape, tiny, tiny_config

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
}

MODEL_PREFIXES = ("model.diffusion_model.", "model.", "")  # of the tiny models, longest first
RELATIVE_SIZE = 0.3  # of the random LoRA's change against a 1/sqrt(fan_in) weight


def make_tiny(model: str, path: Path, seed: int = 0, dtype: torch.dtype | None = None) -> Path:
    """Writes the tiny model; the same seed gives the same bytes. `dtype` replaces every tensor's own format."""
    tensors = {
        key: fill(key, shape, seed).to(DTYPES[found] if dtype is None else dtype)
        for key, (found, shape) in tiny(model).items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    config = tiny_config(model)
    # one entry alone, because save_file writes several in any order
    save_file(tensors, path, {"config": json.dumps(config)} if config else {"format": "pt"})
    return path


def fill(key: str, shape: Shape, seed: int = 0) -> Tensor:
    """Values that keep a model's activations in range: weights ~ N(0, 1/fan_in), norms 1, biases 0."""
    if len(shape) < 2:
        return torch.zeros(shape) if key.endswith(("bias", "vae_shift")) else torch.ones(shape)
    is_table = "embeddings." in key or key.endswith("pos_embed")
    std = 0.02 if is_table else math.prod(shape[1:]) ** -0.5
    return random_normal(key, shape, seed) * std


def random_normal(key: str, shape: Shape, seed: int) -> Tensor:
    """Values that depend on the key and the seed only, not on what was drawn before."""
    # the CPU generator uses 32 bits of its seed, so the two become one number of that size
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}:{key}".encode()))
    return torch.randn(shape, generator=generator)


def modules(model: str) -> dict[str, Shape]:
    """A tiny model's modules that trainers put adapters on: dotted name without prefix, shape of the weight."""
    keys = tiny(model)
    prefix = next(p for p in MODEL_PREFIXES if any(key.startswith(p) for key in keys))
    weights = ((key, shape) for key, (_, shape) in keys.items() if key.startswith(prefix))
    return {
        key.removeprefix(prefix).removesuffix(".weight"): shape
        for key, shape in weights
        if key.endswith(".weight") and len(shape) > 1 and "embeddings." not in key
    }


def flat(prefix: str, named: Mapping[str, Shape]) -> dict[str, Shape]:
    """The same modules under the names that kohya's scripts give them, with `prefix` such as `lora_unet_`."""
    return {prefix + name.replace(".", "_"): shape for name, shape in named.items()}


def make_lora(
    path: Path,
    modules: Mapping[str, Shape],
    rank: int = 4,
    *,
    style: Literal["kohya", "peft", "tucker"] = "kohya",
    alpha: float | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.float16,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Writes random adapters for modules {name as in the file: shape of the weight}; no factor is zero.

    `kohya` writes lora_down, lora_up and alpha (which is the rank where none is given), LoCon for convolutions;
    `tucker` adds lora_mid for kernels above 1x1; `peft` writes lora_A and lora_B, and alpha only where it is given.
    """
    tensors: dict[str, Tensor] = {}
    for name, shape in modules.items():
        tensors |= _factors(name, shape, rank, style, seed)
        # both factors are drawn at 1/sqrt(fan_in), so their product has the size of the weight it is added to
        up_key = f"{name}.{'lora_B' if style == 'peft' else 'lora_up'}.weight"
        tensors[up_key] *= RELATIVE_SIZE * (1.0 if alpha is None else rank / alpha)
        if alpha is not None or style != "peft":
            tensors[f"{name}.alpha"] = torch.tensor(float(rank if alpha is None else alpha))
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.to(dtype) for key, value in tensors.items()}, path, dict(metadata or {}))
    return path


def _factors(name: str, shape: Shape, rank: int, style: str, seed: int) -> dict[str, Tensor]:
    out, width, *kernel = shape
    ones = (1,) * len(kernel)
    down_name, up_name = ("lora_A", "lora_B") if style == "peft" else ("lora_down", "lora_up")
    has_mid = style == "tucker" and math.prod(kernel) > 1
    shapes = {down_name: (rank, width, *(ones if has_mid else kernel)), up_name: (out, rank, *ones)}
    if has_mid:
        shapes["lora_mid"] = (rank, rank, *kernel)
    factors: dict[str, Tensor] = {}
    for part, part_shape in shapes.items():
        key = f"{name}.{part}.weight"
        factors[key] = random_normal(key, part_shape, seed) * math.prod(part_shape[1:]) ** -0.5
    return factors


def sparse_file(path: Path, keys: Mapping[str, tuple[str, Shape]], metadata: Mapping[str, str] | None = None) -> Path:
    """Writes a safetensors file of true size and layout whose values are all zero and take no room on disk."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for key, (dtype, shape) in keys.items():
        start, end = end, end + math.prod(shape) * DTYPES[dtype].itemsize
        header[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # safetensors aligns the data to 8 bytes
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return path


def with_dtype(keys: Mapping[str, Shape], dtype: str = "F16") -> dict[str, tuple[str, Shape]]:
    """A checkpoint's keys as `sparse_file` takes them, all in one number format."""
    return {key: (dtype, shape) for key, shape in keys.items()}
