"""What of a LoRA file gets another rank, under which names it is written then, and the weights that it is for."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from ...adapters import KINDS, LoRA, Shape
from ...errors import LoraError
from ...lazytorch import torch
from ...naming.blocks import block_of
from ...naming.dialects import DIFFUSION, WRITINGS, split_dialect
from ...naming.keymap import KeyMap
from ...parallel.asking import each
from ...reading.adapterspec import AdapterSpec
from ...reading.checkpoint import Checkpoint, weight_on
from ...reading.lorafile import LoraFile
from ...writing.model import choose_model
from ...writing.names import suffix

Suffixes = tuple[str, str]  # of up and down

_WITH_ALPHA: Suffixes = (suffix(WRITINGS["kohya"], LoRA.id, "up"), suffix(WRITINGS["kohya"], LoRA.id, "down"))
_WITHOUT: Suffixes = (suffix(WRITINGS["peft"], LoRA.id, "up"), suffix(WRITINGS["peft"], LoRA.id, "down"))


@dataclass(frozen=True, slots=True)
class Resizable:
    """One adapter of the file that can get another rank."""

    spec: AdapterSpec
    shape: Shape  # of the weight, as far as the file tells
    suffixes: Suffixes  # of the plain LoRA that it becomes
    has_alpha: bool  # that LoRA has an alpha beside it
    bias: AdapterSpec | None  # of the same layer, scaled with it

    @property
    def module(self) -> str:
        return self.spec.module

    @property
    def is_lora(self) -> bool:
        return self.spec.is_lora

    @property
    def must_stay(self) -> bool:
        """Whether something else would be lost with the factors."""
        return self.spec.magnitude is not None or self.bias is not None

    def own_names(self) -> list[str]:
        """Return the names of all tensors of the layer that this adapter owns: factors, alpha, magnitude, bias."""
        bias = self.bias.tensor_names() if self.bias else []
        return [*self.spec.tensor_names(), *bias, *(info.name for info in self.spec.around.values())]


def sources_of(lora: LoraFile, base: Checkpoint | None) -> Iterator[Resizable]:
    """Yield the adapters that can get another rank, in the file's order."""
    beside: dict[str, list[AdapterSpec]] = defaultdict(list)
    for spec in lora.adapters:
        beside[spec.module].append(spec)
    usual, keymap = _usual_suffixes(lora), _keymap(lora, base)
    for spec in each(lora.adapters):
        if not KINDS[spec.kind].has_factors or spec.param != "weight":
            continue
        others = [other for other in beside[spec.module] if other is not spec]
        if any(KINDS[other.kind].alpha == "scale" for other in others):
            continue  # two kinds share an alpha, or would share names
        suffixes = _suffixes(spec) or usual
        has_alpha = spec.has_alpha if spec.is_lora else False
        bias = next((other for other in others if KINDS[other.kind].scaled_with), None)
        yield Resizable(spec, _shape(spec, keymap), suffixes, has_alpha or suffixes == _WITH_ALPHA, bias)


def block(module: str) -> str:
    """Return the block of a module by its name in the file, up to the first number: no model is known here."""
    dialect, rest = split_dialect(module)
    found = re.match(r".+?_\d+(?=_)", rest) if dialect.flat else None
    name = found[0] if found else rest if dialect.flat else block_of(rest)
    return name if DIFFUSION in dialect.roles else f"{dialect.roles[-1]} {name}"


def base_weight(spec: AdapterSpec, base: Checkpoint) -> torch.Tensor | None:
    """Return the weight that an adapter changes, as it sees it, in fp32; None if the model has no place for it."""
    targets = base.keymap.find_first(spec.names, spec.param)
    return weight_on(targets, base.tensor) if targets and spec.fits(targets[0].adapter_shape) else None


def _keymap(lora: LoraFile, base: Checkpoint | None) -> KeyMap | None:
    """Return where modules have their places, None if it does not matter or the file does not tell its model."""
    if all(spec.is_lora or not KINDS[spec.kind].has_factors for spec in lora.adapters):
        return None
    try:
        return base.keymap if base else choose_model(lora, "", None, WRITINGS["comfy"]).keymap
    except LoraError:
        return None


def _shape(spec: AdapterSpec, keymap: KeyMap | None) -> Shape:
    """Return the shape of the change; the model tells the kernel where the parts of a convolution are flat."""
    shape = spec.delta_shape()
    targets = keymap.find_first(spec.names, spec.param) if keymap and len(shape) == 2 and not spec.new_shape else ()
    if targets and spec.fits(targets[0].adapter_shape):
        return targets[0].adapter_shape
    return shape


def _suffixes(spec: AdapterSpec) -> Suffixes | None:
    if not spec.is_lora:
        return None
    up, down = (spec.parts[name].name.removeprefix(spec.module) for name in ("up", "down"))
    return up, down


def _usual_suffixes(lora: LoraFile) -> Suffixes:
    """Return how the file spells factors, or else its dialect."""
    found = Counter(suffixes for spec in lora.adapters if (suffixes := _suffixes(spec)))
    if found:
        return found.most_common(1)[0][0]
    return _WITHOUT if lora.dialect in ("peft", "diffusers") else _WITH_ALPHA
