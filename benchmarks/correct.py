"""What a merge should have written: the exact sum in fp64, rounded once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from tests import manifests

EVERY = 20  # of the modules of the diffusion model, one in so many is checked
PIECE = 2**26  # bytes compared at a time


def rounding_error(base: Path, stack: Sequence[tuple[Path, float]], out: Path, arch: str) -> float:
    """Return ‖written − exact‖ / ‖exact rounded to fp16 − exact‖ over a sample of the weights that change.

    Which weight a module changes is taken from ComfyUI's own names, not from LoRA Core.
    """
    aliases = manifests.aliases(arch)
    found = ideal = 0.0
    with safe_open(base, "np") as before, safe_open(out, "np") as after:
        keys = set(before.keys())
        places = {module: f"model.{aliases[module].key}" for module in _modules(stack[0][0]) if module in aliases}
        for module in [module for module, key in places.items() if key in keys][::EVERY]:
            key = places[module]
            weight = before.get_tensor(key).astype(np.float64)
            exact = weight + sum(_change(path, module, strength, weight.shape) for path, strength in stack)
            found += float(np.square(after.get_tensor(key).astype(np.float64) - exact).sum())
            ideal += float(np.square(exact.astype(np.float16).astype(np.float64) - exact).sum())
    return math.sqrt(found / ideal)


def differing_bytes(one: Path, other: Path) -> int:
    """Return how many bytes of the tensors' data differ between two files of the same layout."""
    first, second = (np.memmap(path, np.uint8, "r", offset=_header(path)) for path in (one, other))
    if len(first) != len(second):
        return abs(len(first) - len(second))
    pieces = range(0, len(first), PIECE)
    return sum(int(np.count_nonzero(first[at : at + PIECE] != second[at : at + PIECE])) for at in pieces)


def _header(path: Path) -> int:
    with path.open("rb") as file:
        return 8 + int.from_bytes(file.read(8), "little")


def _modules(lora: Path) -> list[str]:
    with safe_open(lora, "np") as file:
        names = sorted(name.split(".")[0] for name in file.keys() if name.endswith(".alpha"))  # noqa: SIM118
    return [name for name in names if name.startswith("lora_unet_")]


def _change(path: Path, module: str, strength: float, shape: tuple[int, ...]) -> np.ndarray:
    with safe_open(path, "pt") as file:
        up = file.get_tensor(f"{module}.lora_up.weight").double().flatten(1)
        down = file.get_tensor(f"{module}.lora_down.weight").double().flatten(1)
        scale = float(file.get_tensor(f"{module}.alpha")) / down.shape[0]
    return (strength * scale * torch.mm(up, down)).view(shape).numpy()
