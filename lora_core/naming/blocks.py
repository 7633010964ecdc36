"""Blocks: how reports and pictures group the modules of a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

from ..arch import ARCHES
from ..arch.base import Arch
from .component import Component
from .detection import params_of
from .dialects import BASE
from .outlines import outlines_of, read_outline
from .targets import Target

Block: TypeAlias = "tuple[str, int | None]"  # (group, number); ("other", None); a text encoder is ("te.clip_l", None)
ALL, OTHER, ENCODERS = "all", "other", "te"


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


@dataclass(frozen=True, slots=True)
class ModelBlocks:
    """What of a model can be given a strength of its own."""

    title: str  # of the diffusion model; empty if there is none, and then the name of any model's group may be right
    groups: Mapping[str, tuple[int, ...]]  # group -> its numbers, in order; none if the model has no such block
    encoders: tuple[str, ...]  # ids of text encoders
    presets: Mapping[str, str]
    by_key: Mapping[str, tuple[Block, str]]  # key -> its block, and the id of the model that it is in

    @classmethod
    def of(cls, components: Sequence[Component]) -> ModelBlocks:
        """Return the blocks of models that are used together; a lone language model counts as one."""
        by_key = {
            key: (named_block(one.arch, module), one.arch.id)
            for one in components
            for key, module in one.own_modules().items()
        }
        models = [one for one in components if one.arch.role == "diffusion" or BASE in one.roles]
        diffusion = [one for one in components if one.arch.role == "diffusion"]
        encoders = [one.arch.id for one in components if one.arch.role == "text_encoder"]
        encoders += [name for one in models for name in one.found.text_encoders]
        blocks = [by_key[key][0] for one in models for key in one.own_modules()]
        return cls(
            " and ".join(one.found.title for one in diffusion),
            _groups([one.arch for one in models], blocks),
            tuple(dict.fromkeys(encoders)),
            _presets([one.arch for one in diffusion] or ARCHES),
            by_key,
        )

    @classmethod
    def of_arch(cls, arch: Arch) -> ModelBlocks:
        """Return the blocks of an architecture, as many as its largest edition has."""
        encoders = {name for one in (arch, *arch.editions) for name in one.text_encoders or ()}
        return cls(
            arch.title, _groups([arch], _outlined(arch)), tuple(sorted(encoders)), _presets([arch]), {}
        )  # fmt: skip

    def of_target(self, target: Target) -> Block:
        """Return the block of what an adapter changes."""
        block, model = self.by_key.get(target.key, ((OTHER, None), ""))
        if target.role == "diffusion":
            return block
        return f"{ENCODERS}.{model}" if model else ENCODERS, None

    def names(self) -> list[str]:
        """Return every name that may stand before a number, those of the model first."""
        encoders = [f"{ENCODERS}.{name}" for name in self.encoders]
        return [*self.groups, OTHER, ENCODERS, *encoders, ALL]


def named_block(arch: Arch, module: str) -> Block:
    """Return the block of a module of the architecture's own layout.

    An architecture without groups has those that the modules' names tell: the numbered ones below one name.
    """
    for group, counted in arch.blocks.items():
        rest = module[len(counted) :] if module.startswith(counted) else ""
        number = rest.removeprefix(".").partition(".")[0]
        if number.isdecimal():
            return group, int(number)
    group, _, number = block_of(module).rpartition(".")
    return (group, int(number)) if number.isdecimal() and group and not arch.blocks else (OTHER, None)


@cache
def _outlined(arch: Arch) -> tuple[Block, ...]:
    """Return every block of the known editions; outlines are in the architecture's own layout."""
    modules = {module for found in outlines_of(arch) for module in params_of("", read_outline(found.id).shapes)}
    return tuple({named_block(arch, module) for module in modules})


def _groups(arches: Iterable[Arch], blocks: Iterable[Block]) -> dict[str, tuple[int, ...]]:
    numbers: dict[str, set[int]] = {name: set() for arch in arches for name in arch.blocks}
    for name, number in blocks:
        if number is not None:
            numbers.setdefault(name, set()).add(number)
    return {name: tuple(sorted(found)) for name, found in numbers.items()}


def _presets(arches: Iterable[Arch]) -> dict[str, str]:
    return {name: text for arch in arches for name, text in arch.block_presets.items()}
