"""Blocks: how reports and pictures group the modules of a model."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .component import Component


def block_of(module: str) -> str:
    """Return the block that a module belongs to: its name up to the first number that something follows."""
    tokens = module.split(".")
    number = next((place for place, token in enumerate(tokens[:-1]) if token.isdecimal()), None)
    return ".".join(tokens[: number + 1]) if number is not None else tokens[0]


def block_in(component: Component, module: str) -> str:
    """Return the block of a module of one model; a text encoder's begins with the encoder's id."""
    block = block_of(module)
    return block if component.arch.role == "diffusion" else f"{component.arch.id} {block}"


def in_order(blocks: Iterable[str]) -> list[str]:
    """Return names of blocks, each once, as a model has them: kinds as they come, numbers in their order."""
    names = list(dict.fromkeys(blocks))
    kinds = {kind: place for place, kind in reversed(list(enumerate(map(_kind, names))))}
    return sorted(names, key=lambda name: (kinds[_kind(name)], [int(digits) for digits in re.findall(r"\d+", name)]))


def _kind(name: str) -> str:
    return re.sub(r"\d+", "#", name)
