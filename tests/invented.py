"""A model that nobody has described: a real module of fifty layers, whose names no program knows.

Some of its blocks fuse query, key and value and some do not; some layers are convolutions, one of them depthwise.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, HEADS, CHANNELS, WORDS, BLOCKS = 24, 2, 4, 16, 5


class Reef(nn.Module):
    """Attention to itself and to the text, a feed-forward, and a convolution over neighbours."""

    def __init__(self, fused: bool, ops: Any, **like: Any) -> None:
        super().__init__()
        self.mix = nn.ModuleDict({"outlet": ops.Linear(WIDTH, WIDTH, **like)})
        if fused:
            self.mix["qkv"] = ops.Linear(WIDTH, 3 * WIDTH, **like)
        else:
            self.mix.update({f"to_{part}": ops.Linear(WIDTH, WIDTH, bias=False, **like) for part in "qkv"})
        self.hear = nn.ModuleDict(
            {"asking_side": ops.Linear(WIDTH, WIDTH, **like), "both_told": ops.Linear(WORDS, 2 * WIDTH, **like)}
        )
        self.swell_rise, self.swell_fall = ops.Linear(WIDTH, 3 * WIDTH, **like), ops.Linear(3 * WIDTH, WIDTH, **like)
        self.turn = ops.Linear(WIDTH, 2 * WIDTH, **like)
        self.ripple = ops.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH, **like)

    def forward(self, x: Tensor, hour: Tensor, words: Tensor, size: tuple[int, int]) -> Tensor:
        shift, scale = self.turn(hour)[:, None].chunk(2, dim=-1)
        y = functional.layer_norm(x, (WIDTH,)) * (1 + scale) + shift
        parts = self.mix["qkv"](y).chunk(3, dim=-1) if "qkv" in self.mix else [self.mix[f"to_{p}"](y) for p in "qkv"]
        x = x + self.mix["outlet"](attention(*parts))
        x = x + attention(self.hear["asking_side"](x), *self.hear["both_told"](words).chunk(2, dim=-1))
        x = x + self.swell_fall(functional.gelu(self.swell_rise(functional.layer_norm(x, (WIDTH,)))))
        return x + self.ripple(x.transpose(1, 2).unflatten(2, size)).flatten(2).transpose(1, 2)


class Lagoon(nn.Module):
    """The whole model, called as ComfyUI calls a diffusion model."""

    def __init__(self, dtype: Any = None, device: Any = None, operations: Any = nn, **_: Any) -> None:
        super().__init__()
        like: dict[str, Any] = {"dtype": dtype, "device": device}
        self.dtype = dtype
        self.weave_in = operations.Conv2d(CHANNELS, WIDTH, 3, padding=1, **like)
        self.hours = nn.ModuleList([operations.Linear(WIDTH, 2 * WIDTH, **like), operations.Linear(48, WIDTH, **like)])
        self.reef = nn.ModuleList(Reef(i % 2 == 0, operations, **like) for i in range(BLOCKS))
        self.words_in = operations.Linear(WORDS, WORDS, **like)
        self.level = operations.Linear(WIDTH, WIDTH, **like)
        self.weave_out = operations.Conv2d(WIDTH, CHANNELS, 1, **like)
        self.tide = nn.Parameter(torch.ones(WIDTH, **like))

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor, **_: Any) -> Tensor:
        rates = torch.exp(torch.arange(WIDTH // 2, device=x.device) * (-math.log(1e4) / (WIDTH // 2)))
        angles = timesteps[:, None].float() * rates[None]
        hour = self.hours[1](
            functional.silu(self.hours[0](torch.cat((angles.sin(), angles.cos()), dim=-1).to(x.dtype)))
        )
        y, words = self.weave_in(x), self.words_in(context)
        size = (y.shape[-2], y.shape[-1])
        y = y.flatten(2).transpose(1, 2)
        for block in self.reef:
            y = block(y, hour, words, size)
        y = self.level(functional.layer_norm(y, (WIDTH,))) * self.tide.to(y.dtype)
        return self.weave_out(y.transpose(1, 2).unflatten(2, size))


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    query, key, value = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (query, key, value))
    return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def layers() -> dict[str, tuple[int, ...]]:
    """The layers, and the shapes of their weights."""
    named = Lagoon(device="meta").named_modules()
    return {name: tuple(part.weight.shape) for name, part in named if isinstance(part, (nn.Linear, nn.Conv2d))}


def state(seed: int = 0) -> dict[str, Tensor]:
    """Weights that depend on the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: tensor.shape for name, tensor in Lagoon(device="meta").state_dict().items()}
    return {
        name: torch.randn(shape, generator=generator) * (math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.1)
        for name, shape in shapes.items()
    }
