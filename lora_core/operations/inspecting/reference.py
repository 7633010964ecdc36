"""Where the adapters of LoRA files lie in a model, given or guessed, so that layers of several files compare."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ...arch.base import Arch, Shape
from ...errors import OptionError
from ...lazytorch import torch
from ...naming.blocks import block_in
from ...naming.component import Component
from ...naming.dialects import DIFFUSION, split_dialect
from ...naming.keymap import KeyMap
from ...naming.outlines import outlines_of
from ...naming.targets import Target
from ...reading.adapterspec import AdapterSpec
from ...reading.checkpoint import Checkpoint, weight_on
from ...reading.guess import best_outlines, numbered_keymap, outline_keymap, with_encoders
from ...reading.lorafile import LoraFile
from ...report import LoraReport
from ...stack.opened import StackedLora, Strengths

_BLOCK = re.compile(r"(.+?[._]\d+)[._]")  # a name that no model knows: up to the first number


@dataclass(frozen=True, slots=True)
class AdapterLayer:
    """One adapter of a file, its tensors still there, and where it belongs."""

    lora: LoraFile
    spec: AdapterSpec
    strength: float
    block: str
    targets: tuple[Target, ...]  # none if no model is known, or it has no place of its shape

    @property
    def name(self) -> str:
        """The module, with the parameter where that is not its weight."""
        return self.spec.module if self.spec.param == "weight" else f"{self.spec.module}.{self.spec.param}"

    @property
    def free_name(self) -> str:
        """What the layer is called where no model tells: the same in files whose trainers name it alike."""
        dialect, rest = split_dialect(self.name)
        return " ".join((*dialect.roles[:1], rest.replace(".", "_"), *map(str, self.shape)))

    @property
    def shape(self) -> Shape:
        """The shape of what changes, 0 for a size that neither the file nor a model tells."""
        return self.targets[0].adapter_shape if self.targets else self.spec.delta_shape()


class Reference:
    """A model that layers are placed on: checkpoints with their weights, outlines without, or nothing."""

    def __init__(self, keymap: KeyMap, checkpoints: Sequence[Checkpoint] = ()) -> None:
        """Take a key map whose keys begin with the number of their file, as several files may use one key."""
        self._keymap, self._checkpoints = keymap, checkpoints

    @classmethod
    def of(cls, checkpoints: Sequence[Checkpoint]) -> Reference:
        return cls(numbered_keymap((checkpoint.shapes, checkpoint.found) for checkpoint in checkpoints), checkpoints)

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        return {key: shape for component in self._keymap.components for key, shape in component.shapes.items()}

    def layers(self, item: StackedLora, described: LoraReport) -> list[AdapterLayer]:
        """Return a file's adapters with their places, in the order of the file, and tell the report of blocks.

        Raises OptionError for strengths of blocks that the model does not have, or where no model is known.
        """
        if item.blocks and not self._keymap.components:
            raise OptionError(f"{item.lora.name}: blocks: no known model fits this LoRA; name one to match it with.")
        strengths = item.strengths_on(self._keymap)
        layers = [self._layer(item, spec, strengths) for spec in item.lora.adapters]
        if item.blocks:
            strengths.tell(described)
        return layers

    def weight(self, layer: AdapterLayer) -> torch.Tensor | None:
        """Return what of the checkpoints a layer's adapter changes, as it sees it, in fp32; None without one."""
        return weight_on(layer.targets, self._tensor) if layer.targets and self._checkpoints else None

    def _tensor(self, key: str) -> torch.Tensor:
        number, _, name = key.partition("/")
        return self._checkpoints[int(number)].tensor(name)

    @cached_property
    def _owners(self) -> dict[str, Component]:
        owners: dict[str, Component] = {}
        for component in self._keymap.components:
            owners |= dict.fromkeys(component.keys(), component)
        return owners

    def _layer(self, item: StackedLora, spec: AdapterSpec, strengths: Strengths) -> AdapterLayer:
        targets = self._keymap.find_first(spec.names, spec.param)
        fits = bool(targets) and spec.fits(targets[0].adapter_shape)
        without_place = item.strength_model if DIFFUSION in split_dialect(spec.module)[0].roles else item.strength_clip
        strength = strengths.at(targets[0]) if targets else without_place
        block = self._block(targets[0].key) if targets else _fallback_block(spec.module)
        return AdapterLayer(item.lora, spec, strength, block, targets if fits else ())

    def _block(self, key: str) -> str:
        component = self._owners[key]
        return block_in(component, key[len(component.found.prefix) :])


def guessed(loras: Sequence[LoraFile]) -> Reference:
    """Return the known model that most adapters of the files fit, without weights; an empty one if none is known.

    Raises OptionError for files of different architectures.
    """
    candidates = [found for arch in shared_arches(loras) for found in outlines_of(arch)]
    return Reference(outline_keymap(with_encoders(best_outlines(loras, candidates)[:1], loras)))


def shared_arches(loras: Sequence[LoraFile]) -> list[Arch]:
    """Return the architectures that all files fit, of those that tell; raises OptionError if there is none."""
    telling = [lora for lora in loras if lora.arches]
    shared = list(telling[0].arches) if telling else []
    for lora in telling[1:]:
        both = [arch for arch in shared if arch in lora.arches]
        if not both:
            raise OptionError(
                f"{lora.name}: is for {_titles(lora.arches)}, but {telling[0].name} is for {_titles(shared)}; "
                "LoRAs compare with those of the same model only."
            )
        shared = both
    return shared


def _fallback_block(module: str) -> str:
    """Return the start of a name that is in no known model: for the eye alone, so it may be wrong."""
    dialect, rest = split_dialect(module)
    match = _BLOCK.match(rest)
    block = match[1] if match else rest
    return block if DIFFUSION in dialect.roles else f"{dialect.roles[0]} {block}"


def _titles(arches: Sequence[Arch]) -> str:
    return " or ".join(arch.title for arch in arches)
