"""Blocks: how reports and pictures group the modules of a model."""

from __future__ import annotations

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
