"""One LoRA in several trainers' words: names, fused pieces, row orders and parts differ, and the change is the same.

What each trainer writes is stated here by itself, from the trainers' and converters' code, and not by our tables.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from tests import tiny
from tests.manifests import Shape

RANK, ALPHA = 4, 2.0
Factors = Mapping[str, tuple[Tensor, Tensor]]  # module in the model's own words: down, up with alpha / rank in it
Order = Callable[[Tensor], Tensor]

PEFT = ("lora_A.weight", "lora_B.weight")
DIFFSYNTH = ("lora_A.default.weight", "lora_B.default.weight")
KOHYA = ("lora_down.weight", "lora_up.weight")


@dataclass(frozen=True)
class Spelling:
    """How one trainer writes the LoRA of one model."""

    id: str
    prefix: str
    parts: tuple[str, str] = PEFT
    has_alpha: bool = False
    flat: bool = False
    names: tuple[tuple[str, str], ...] = ()  # what else it calls modules, as substitutions
    pieces: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # end of a name: the equal pieces that it has
    orders: Mapping[str, Order] = field(default_factory=dict)  # end of a name: its rows as they lie there

    def tensors(self, factors: Factors) -> dict[str, Tensor]:
        """Return the file's tensors."""
        tensors: dict[str, Tensor] = {}
        for module, (down, up) in factors.items():
            for name, rows in self._spelled(module, up):
                tensors[f"{name}.{self.parts[0]}"] = down
                tensors[f"{name}.{self.parts[1]}"] = rows * (RANK / ALPHA if self.has_alpha else 1)
                if self.has_alpha:
                    tensors[f"{name}.alpha"] = torch.tensor(ALPHA)
        return {name: tensor.clone() for name, tensor in tensors.items()}

    def _spelled(self, module: str, up: Tensor) -> list[tuple[str, Tensor]]:
        """Return the file's names of a module, and the rows of its change that each of them has."""
        for end, order in self.orders.items():
            up = order(up) if module.endswith(end) else up
        end = next((end for end in self.pieces if module.endswith(end)), "")
        names = [module.removesuffix(end) + piece for piece in self.pieces.get(end, ("",))]
        for pattern, other in self.names:
            names = [re.sub(pattern, other, name) for name in names]
        names = [self.prefix + (name.replace(".", "_") if self.flat else name) for name in names]
        return list(zip(names, up.chunk(len(names)), strict=True))


def drawn(modules: Mapping[str, Shape], seed: int = 1) -> dict[str, tuple[Tensor, Tensor]]:
    """Return a random change of each module, about half as large as its weight."""
    return {
        module: (
            tiny.random_normal(f"{module}.down", (RANK, *shape[1:]), seed) * math.prod(shape[1:]) ** -0.5,
            tiny.random_normal(f"{module}.up", (shape[0], RANK, *(1 for _ in shape[2:])), seed) * 0.5 * RANK**-0.5,
        )
        for module, shape in modules.items()
    }


def change(down: Tensor, up: Tensor) -> Tensor:
    """Return the change that two factors are, in fp64."""
    return (up.double().flatten(1) @ down.double().flatten(1)).reshape(up.shape[0], *down.shape[1:])


def swapped(rows: Tensor) -> Tensor:
    first, second = rows.chunk(2)
    return torch.cat((second, first))


def by_head(heads: int) -> Order:
    """All queries, then all keys, then all values: as rows of one head after the other."""

    def order(rows: Tensor) -> Tensor:
        return rows.unflatten(0, (3, heads, -1)).transpose(0, 1).flatten(0, 2)

    return order


AI_TOOLKIT = Spelling("ai-toolkit", "diffusion_model.")
MUSUBI = Spelling("kohya", "lora_unet_", KOHYA, has_alpha=True, flat=True)
DIFFUSERS = Spelling("diffusers", "transformer.")
LYCORIS = Spelling("LyCORIS", "lycoris_", KOHYA, has_alpha=True, flat=True)

# the model of `tests/invented.py`: three of its blocks fuse query, key and value, which some files have apart
_TO_Q, _Q, _Q_PROJ = (
    {"mix.qkv": tuple("mix." + name.replace("#", part) for part in "qkv")} for name in ("to_#", "#", "#_proj")
)
LAGOON = (
    AI_TOOLKIT,
    MUSUBI,
    replace(DIFFUSERS, pieces=_TO_Q),
    replace(LYCORIS, pieces=_Q),
    Spelling("PEFT", "base_model.model.", pieces=_Q_PROJ),
    Spelling("bare", "", pieces=_Q),
)
