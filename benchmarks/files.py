"""Checkpoints and LoRA files with the names, shapes and number formats of real ones, and made-up values.

Values are random where they matter for time or error. Files of which only the header is read are sparse.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests import manifests, tiny
from tests.manifests import Shape

SPREAD = 0.02  # standard deviation of a weight's values
POOL = 2**26  # random values that are drawn once; every weight is a piece of them
CHANGE_RANK, CHANGE_SIZE, CHANGE_NOISE = 96, 0.02, 0.3  # of a tuned model: ranks with a slope, size, share of noise
_TINY = {"sd15": "sd15", "sdxl": "sd15", "ssd1b": "sd15", "flux1_dev": "flux"}  # what stands for a model in a quick run


def model_keys(arch: str, quick: bool) -> dict[str, Shape]:
    """Return the tensors of a model's file; a tiny model of the same kind for a quick run."""
    if quick:
        return {key: shape for key, (_, shape) in manifests.tiny(_TINY[arch]).items()}
    return manifests.checkpoint(arch).keys


def lora_shapes(arch: str, quick: bool) -> dict[str, Shape]:
    """Return {module as kohya's trainer names it: shape of the change} for a LoRA of every module it trains."""
    if quick:
        return tiny.flat("lora_unet_", tiny.modules(_TINY[arch]))
    tensors = manifests.trainer(f"kohya_lora-{arch}").tensors
    ups = {name.split(".")[0]: shape for name, (_, shape) in tensors.items() if ".lora_up." in name}
    downs = {name.split(".")[0]: shape for name, (_, shape) in tensors.items() if ".lora_down." in name}
    return {module: (up[0], *downs[module][1:]) for module, up in ups.items()}


def lora_file(path: Path, shapes: Mapping[str, Shape], rank: int, seed: int = 0) -> Path:
    """Write a LoRA of `rank` in fp16 whose singular values fall as i^-1/2, and whose alpha is its rank."""
    generator = torch.Generator().manual_seed(seed)
    slope = torch.arange(1, rank + 1, dtype=torch.float32) ** -0.5
    tensors: dict[str, torch.Tensor] = {}
    for module, (out, *rest) in shapes.items():
        down = torch.randn(rank, *rest, generator=generator) * 0.05
        up = torch.randn(out, rank, generator=generator) * slope * 0.05
        tensors[f"{module}.alpha"] = torch.tensor(float(rank)).half()
        tensors[f"{module}.lora_down.weight"] = down.half()
        tensors[f"{module}.lora_up.weight"] = up.reshape(out, rank, *(1,) * (len(rest) - 1)).half()
    save_file(tensors, path)
    return path


def lora_files(folder: Path, arch: str, rank: int, count: int, quick: bool) -> list[Path]:
    """Return `count` LoRA files of `rank`, made where they are not there yet."""
    shapes = lora_shapes(arch, quick)
    paths = [folder / f"{arch}_r{rank}_{index}.safetensors" for index in range(count)]
    for seed, path in enumerate(paths):
        if not path.exists():
            lora_file(path, shapes, rank, seed)
    return paths


def model_file(path: Path, keys: Mapping[str, Shape]) -> Path:
    """Write a checkpoint in fp16 whose values are random."""
    if not path.exists():
        _write(path, keys, (piece for shape in keys.values() for piece in _pieces(math.prod(shape))))
    return path


def header_file(path: Path, keys: Mapping[str, Shape]) -> Path:
    """Write a checkpoint in fp16 whose values are all zero and take no room on the disk."""
    return path if path.exists() else tiny.sparse_file(path, tiny.with_dtype(keys))


def tuned_file(path: Path, base: Path) -> Path:
    """Write what training might make of `base`: a change of falling singular values, and noise.

    The change is CHANGE_RANK random directions with σ falling as i^-1/2, plus white noise of CHANGE_NOISE its size.
    """
    with safe_open(base, "pt") as file:
        names = list(file.keys())
        keys = {name: tuple(file.get_slice(name).get_shape()) for name in names}
        _write(path, keys, (_tuned(file.get_tensor(name), seed) for seed, name in enumerate(names)))
    return path


def _tuned(weight: torch.Tensor, seed: int) -> bytes:
    if weight.dim() < 2:
        return _bytes(weight + 0.001)
    generator = torch.Generator().manual_seed(seed)
    rows, columns = weight.shape[0], weight[0].numel()
    slope = torch.arange(1, CHANGE_RANK + 1, dtype=torch.float32) ** -0.5
    left = torch.randn(rows, CHANGE_RANK, generator=generator) * (slope / slope.norm())
    change = (left @ torch.randn(CHANGE_RANK, columns, generator=generator)).view_as(weight)
    offset = seed * 4099 % (POOL // 2)
    while offset + weight.numel() > POOL:
        offset //= 2
    noise = _pool()[offset : offset + weight.numel()].view_as(weight).float() / SPREAD
    size = CHANGE_SIZE * SPREAD
    return _bytes(weight.float() + size * change + size * CHANGE_NOISE * noise)


def _bytes(values: torch.Tensor) -> bytes:
    return values.half().contiguous().numpy().tobytes()


@cache
def _pool() -> torch.Tensor:
    return (torch.randn(POOL, generator=torch.Generator().manual_seed(0)) * SPREAD).half()


def _pieces(count: int) -> Iterator[memoryview]:
    """Yield the bytes of `count` values, from another place of the pool for every count."""
    offset = count * 31 % (POOL // 2)
    while count:
        taken = min(count, POOL - offset)
        yield memoryview(_pool()[offset : offset + taken].numpy()).cast("B")
        count, offset = count - taken, 0


def _write(path: Path, keys: Mapping[str, Shape], data: Iterator[bytes | memoryview]) -> None:
    header: dict[str, object] = {}
    end = 0
    for key, shape in keys.items():
        start, end = end, end + 2 * math.prod(shape)
        header[key] = {"dtype": "F16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # safetensors aligns the data to 8 bytes
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for piece in data:
            file.write(piece)
