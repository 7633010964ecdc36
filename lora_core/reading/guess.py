"""Which known model LoRA files are for: the outlines that most of their adapters fit, and the key maps of outlines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

from ..arch.base import Shapes
from ..naming.detection import FoundArch
from ..naming.dialects import DIFFUSION
from ..naming.keymap import KeyMap
from ..naming.outlines import outlined, read_outline
from .lorafile import LoraFile

ModelFile = tuple[Shapes, Sequence[FoundArch]]

_REMEMBERED = 24  # key maps, of 2 MB each and 8 at most: an architecture has fewer editions


def best_outlines(loras: Sequence[LoraFile], candidates: Sequence[FoundArch]) -> list[FoundArch]:
    """Return the candidates, in their order, that most adapters of the files fit; one alone need not fit."""
    if len(candidates) < 2:
        return list(candidates)
    counts = [sum(fitting(lora, outline_keymap(with_encoders([one], loras))) for lora in loras) for one in candidates]
    return [one for one, count in zip(candidates, counts, strict=True) if count == max(counts)]


def fitting(lora: LoraFile, keymap: KeyMap) -> int:
    """Return how many adapters have a place of their shape in a model."""
    places = ((spec, keymap.find_first(spec.names, spec.param)) for spec in lora.adapters)
    return sum(bool(targets) and spec.fits(targets[0].adapter_shape) for spec, targets in places)


def with_encoders(models: Sequence[FoundArch], loras: Iterable[LoraFile]) -> tuple[FoundArch, ...]:
    """Return the models, with the outlines of text encoders that belong to them if any file changes one."""
    if all(lora.roles <= {DIFFUSION} for lora in loras):
        return tuple(models)
    held = {item.arch.id for item in models}
    families = [item for item in models if item.arch.role == "diffusion"]
    wanted = dict.fromkeys(name for family in families for name in family.text_encoders if name not in held)
    return (*models, *(item for name in wanted for item in outlined(name)[:1]))


@lru_cache(_REMEMBERED)
def outline_keymap(outlines: tuple[FoundArch, ...]) -> KeyMap:
    """Return the key map of models that are known by their outlines."""
    return numbered_keymap([outline_file(item) for item in outlines])


def outline_file(found: FoundArch) -> ModelFile:
    return read_outline(found.id).shapes, [found]


def numbered_keymap(files: Iterable[ModelFile]) -> KeyMap:
    """Return the key map of several files, each one's number before its keys: two of them may have keys alike."""
    return KeyMap(*(_numbered(f"{number}/", *file) for number, file in enumerate(files)))


def _numbered(start: str, shapes: Shapes, found: Sequence[FoundArch]) -> ModelFile:
    keys = {start + key: shape for key, shape in shapes.items()}
    return keys, [replace(item, prefix=start + item.prefix) for item in found]
