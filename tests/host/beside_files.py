"""LoRA files of every kind that has a branch, on the layers of a tiny model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests import tiny

KINDS = ("lora", "tucker", "loha", "lokr", "dora", "ia3", "mixed")
SIZE = 0.1  # of a change beside its weight, about


def write_kinds(folder: Path, family: str, model: Path) -> None:
    """Write a file of each kind into FOLDER/FAMILY."""
    (folder / family).mkdir(parents=True, exist_ok=True)
    weights = _weights(model)
    for number, kind in enumerate(KINDS):
        tensors: dict[str, Tensor] = {}
        for at, (name, shape) in enumerate(tiny.modules(family).items()):
            chosen = KINDS[at % 6] if kind == "mixed" else kind
            generator = torch.Generator().manual_seed(1000 * number + at)
            weight = weights.get(name, torch.ones(shape) * 0.05)
            for part, tensor in _parts(chosen, shape, weight, generator):
                tensors[f"lora_unet_{name.replace('.', '_')}.{part}"] = tensor.contiguous()
        save_file(tensors, folder / family / f"{kind}.safetensors")


def _weights(model: Path) -> dict[str, Tensor]:
    """Return the weights of a file by their modules' names, whatever stands before them."""
    tensors = load_file(model)
    return {
        key.removeprefix("model.diffusion_model.").removesuffix(".weight"): tensor.float()
        for key, tensor in tensors.items()
        if key.endswith(".weight")
    }


def _parts(
    kind: str, shape: tuple[int, ...], weight: Tensor, generator: torch.Generator
) -> Iterator[tuple[str, Tensor]]:
    out, inputs, *kernel = shape
    ones = [1] * len(kernel)
    size = SIZE * float(weight.norm()) / math.sqrt(weight.numel())

    def normal(*sizes: int, scale: float = 1.0) -> Tensor:
        return torch.randn(sizes, generator=generator) * scale

    if kind == "lokr" and (out % 4 or inputs % 4):
        kind = "lora"
    if kind in ("lora", "dora"):
        yield "lora_up.weight", normal(out, 2, *ones, scale=size)
        yield "lora_down.weight", normal(2, inputs, *kernel)
        yield "alpha", torch.tensor(2.0)
    if kind == "dora":
        yield "dora_scale", weight.flatten(1).norm(dim=1).reshape(-1, 1, *ones) * (1 + normal(out, 1, *ones, scale=0.1))
    if kind == "tucker":
        yield "lora_up.weight", normal(out, 2, *ones, scale=size)
        yield "lora_down.weight", normal(2, inputs, *ones)
        yield "alpha", torch.tensor(2.0)
        if math.prod(kernel) > 1:
            yield "lora_mid.weight", normal(2, 2, *kernel)
    if kind == "loha":
        for number in (1, 2):
            yield f"hada_w{number}_a", normal(out, 2, scale=size if number == 1 else 1.0)
            yield f"hada_w{number}_b", normal(2, inputs * math.prod(kernel))
        yield "alpha", torch.tensor(2.0)
    if kind == "lokr":
        yield "lokr_w1", normal(4, 4, scale=size)
        yield "lokr_w2", normal(out // 4, inputs // 4, *kernel)
    if kind == "ia3":
        yield "weight", normal(out, scale=SIZE)
        yield "on_input", torch.tensor(0.0)
