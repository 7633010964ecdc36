"""One case of an adapter kind: a layer, what a peer saves for it, and the weight that the peer then computes with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lora_core.naming.targets import Target
from lora_core.reading.lorafile import LoraFile
from lora_core.stack.apply import Placed, apply_stack

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(12, 20, bias=False),
    "square": lambda: nn.Linear(16, 16, bias=False),
    "point": lambda: nn.Conv2d(6, 12, 1, bias=False),
    "kernel": lambda: nn.Conv2d(8, 16, 3, bias=False),
    "video": lambda: nn.Conv3d(4, 8, (1, 2, 3), bias=False),
    "biased": lambda: nn.Linear(12, 20),
    "biased kernel": lambda: nn.Conv2d(8, 16, 3),
    "tall": lambda: nn.Linear(12, 24, bias=False),
    "wide": lambda: nn.Linear(24, 12, bias=False),
    "odd": lambda: nn.Linear(11, 15, bias=False),
    "even": lambda: nn.Linear(16, 24),
    "embedding": lambda: nn.Embedding(20, 12),
    "norm": lambda: nn.LayerNorm(12),
}


@dataclass(frozen=True)
class Made:
    """A random adapter: what the peer saves for it, and the parameters before and after."""

    tensors: dict[str, Tensor]
    before: dict[str, Tensor]
    after: dict[str, Tensor]
    config: dict[str, Any] | None = None  # adapter_config.json


@dataclass(frozen=True)
class Case:
    kind: str
    oracle: str
    layer: str
    make: Callable[[int], Made]
    options: Mapping[str, Any] = field(default_factory=dict)
    algorithm: str = ""  # as the peer calls it: PEFT its type, LyCORIS the class

    @property
    def name(self) -> str:
        options = ", ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.kind} / {self.oracle} / {self.layer}" + (f" / {options}" if options else "")


def layer(name: str, seed: int) -> Any:
    result = LAYERS[name]()
    generator = torch.Generator().manual_seed(seed)
    for parameter in result.parameters():
        fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
        parameter.data = torch.randn(parameter.shape, generator=generator) / fan_in**0.5
    return result.eval().requires_grad_(False)


def randomise(module: nn.Module, seed: int) -> None:
    """Give every trained tensor values such that the change is about as large as the weight."""
    generator = torch.Generator().manual_seed(seed + 1)
    for name, parameter in module.named_parameters():
        if not any(word in name for word in ("magnitude", "dora_scale", "rescale", "boft_s", "ia3_l", "scalar")):
            inputs = parameter[0].numel() if parameter.dim() > 1 else 9
            parameter.data = torch.randn(parameter.shape, generator=generator) / inputs**0.5
        else:  # these multiply, and start from what changes nothing
            parameter.data = parameter.data + 0.3 * torch.randn(parameter.shape, generator=generator)


def weight_behind(module: nn.Module, weight: Tensor) -> Tensor:
    """Return the weight with which a bias-free layer computes, from its answers to every unit input."""
    count = weight[0].numel()
    units = torch.eye(count).reshape(count, *weight.shape[1:])
    with torch.no_grad():
        return module(units).reshape(count, weight.shape[0]).t().reshape(weight.shape)


def ours(made: Made, folder: Path, strength: float = 1.0, semantics: Any = "paper") -> dict[str, Tensor]:
    """Return the parameters with what the peer saved applied by lora_core."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in made.tensors.items()}, folder / "adapter_model.safetensors")
    if made.config is not None:
        (folder / "adapter_config.json").write_text(json.dumps(made.config))
    result = dict(made.before)
    with LoraFile(folder, semantics) as file:
        assert not file.unsupported and not file.not_adapters, (file.unsupported, file.not_adapters)
        for spec in file.adapters:
            shape = tuple(result[spec.param].shape) if spec.param in result else None
            if shape is None and spec.optional:
                continue
            assert shape is not None and spec.fits(shape), (spec.param, spec.shapes, shape)
            placed = Placed(file.adapter(spec), Target(spec.param, shape), strength)
            result[spec.param] = apply_stack(result[spec.param], [placed], semantics)
    return result


def error(found: Mapping[str, Tensor], made: Made) -> float:
    """Return the largest error over the largest change, or over a tenth of the largest weight if that is more.

    The second for changes so small that the digits of W' itself are what is off.
    """
    change = max(float((made.after[key] - made.before[key]).abs().max()) for key in made.before)
    weight = max(float(value.abs().max()) for value in made.before.values())
    wrong = max(float((found[key].double() - made.after[key].double()).abs().max()) for key in made.before)
    return wrong / max(change, weight / 10)
