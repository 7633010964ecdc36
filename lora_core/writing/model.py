"""Which model a LoRA is converted for: the one that is named or given, else the one that its modules fit best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..arch import ARCHES, DIFFUSION_ARCHES
from ..arch.base import Shapes
from ..errors import OptionError, UnknownArchError
from ..naming.detection import FoundArch, describe, own_shapes
from ..naming.dialects import Writing
from ..naming.keymap import KeyMap
from ..naming.outlines import diffusers_names, outlined, outlines_of, read_outline
from ..reading.checkpoint import Checkpoint
from ..reading.guess import (
    ModelFile,
    best_outlines,
    fitting,
    numbered_keymap,
    outline_file,
    outline_keymap,
    with_encoders,
)
from ..reading.lorafile import LoraFile
from ..text import some_names
from .names import written
from .plan import plan


@dataclass(frozen=True, slots=True)
class ModelNames:
    """A model's names, in its architecture's own layout; `id` is None if the file fits several alike."""

    id: str | None
    title: str
    keymap: KeyMap
    diffusers: Mapping[str, frozenset[str]]  # names there by the id of an architecture, where the rows give several

    def module_names(self, writing: Writing) -> list[str]:
        """Return the names of all modules, dialect prefix apart."""
        names = (
            name.module
            for component in self.keymap.components
            for _, name in written(component, writing, self.diffusers.get(component.arch.id, frozenset()))
        )
        return list(dict.fromkeys(names))


def choose_model(lora: LoraFile, arch: str, base: Checkpoint | None, writing: Writing) -> ModelNames:
    """Return the model; raises OptionError for an unknown `arch`, UnknownArchError if the file does not tell."""
    if base is not None:
        return _given(base, [lora])
    candidates = outlined(arch) if arch else [found for guess in lora.arches for found in outlines_of(guess)]
    if arch and not candidates:
        known = sorted({item.id for one in ARCHES for item in outlines_of(one)})
        raise OptionError(f"arch: expected the id of a model, found {arch!r}; known are {', '.join(known)}.")
    if not candidates:
        candidates = _named_encoders(lora)
        if candidates and not writing.counts_encoders:
            return _outlined(candidates, lora)
        raise UnknownArchError(
            f"{lora.name}: its names and shapes do not tell which model it is for, e.g. {lora.modules[0]!r}; "
            "name it with --arch, or give it with --base."
        )
    return _best(lora, candidates, writing)


def common_model(loras: Sequence[LoraFile], arch: str, base: Checkpoint | None, writing: Writing) -> ModelNames:
    """Return the model that most adapters of the files fit, with its text encoders if any file changes one.

    Raises UnknownArchError if no file tells its model.
    """
    if base is not None:
        return _given(base, loras)
    models: list[ModelNames] = []
    unknown: UnknownArchError | None = None
    for lora in loras:
        try:
            models.append(choose_model(lora, arch, None, writing))
        except UnknownArchError as error:  # another file of the stack may tell
            unknown = unknown or error
    if not models:
        assert unknown is not None
        raise unknown
    models.sort(key=lambda model: -len(model.keymap.components))
    distinct = list({model.title: model for model in reversed(models)}.values())[::-1]
    if len(distinct) == 1:
        return distinct[0]
    return max(distinct, key=lambda model: sum(fitting(lora, model.keymap) for lora in loras))


def _given(base: Checkpoint, loras: Sequence[LoraFile]) -> ModelNames:
    """Return a checkpoint's model, with the text encoders that belong to it if any file changes one."""
    encoders = with_encoders(base.found, loras)[len(base.found) :]
    files = [_own_layout(base, found) for found in base.found] + [outline_file(item) for item in encoders]
    return _named(base.found, encoders, numbered_keymap(files))


def _outlined(found: Sequence[FoundArch], lora: LoraFile) -> ModelNames:
    """Return a model that its outline tells, with its text encoders if the LoRA changes any."""
    outlines = with_encoders(found, [lora])
    return _named(list(found), outlines[len(found) :], outline_keymap(outlines))


def _named(found: list[FoundArch], encoders: Sequence[FoundArch], keymap: KeyMap) -> ModelNames:
    return ModelNames(*describe(found), keymap, {item.arch.id: diffusers_names(item) for item in (*found, *encoders)})


def _own_layout(base: Checkpoint, found: FoundArch) -> ModelFile:
    """Return a checkpoint's keys as the architecture's own layout has them."""
    if found.renamed:
        shapes: Shapes = own_shapes(found.arch, base.shapes, found.prefix)
    else:
        start = len(found.prefix)
        shapes = {key[start:]: shape for key, shape in base.shapes.items() if key.startswith(found.prefix)}
    return shapes, [replace(found, prefix="", renamed=False)]


def _best(lora: LoraFile, candidates: Sequence[FoundArch], writing: Writing) -> ModelNames:
    """Return the smallest model of those that the most modules fit.

    Raises UnknownArchError for two architectures alike, unless the names to write are the same in both.
    """
    best = best_outlines([lora], candidates)
    best.sort(key=lambda found: len(read_outline(found.id).shapes))
    arches = {found.arch.id: found for found in reversed(best)}  # the smallest of each
    models = [_outlined([found], lora) for found in reversed(arches.values())]
    first = models[0]
    if len(models) > 1 and any(_names(lora, model, writing) != _names(lora, first, writing) for model in models):
        raise UnknownArchError(
            f"{lora.name}: fits several models equally well, {some_names(sorted(arches))}; "
            "name one with --arch, or give it with --base."
        )
    title = " or ".join(found.arch.title for found in reversed(arches.values()))
    if len(models) > 1:
        return replace(first, id=None, title=title)
    return first if len(best) == 1 else replace(first, id=best[0].arch.id, title=title)


def _names(lora: LoraFile, model: ModelNames, writing: Writing) -> set[tuple[str, str]]:
    return {(job.slot.name, job.slot.param) for job in plan(lora, model.keymap, writing, model.diffusers).jobs}


def _named_encoders(lora: LoraFile) -> list[FoundArch]:
    """Return the text encoders that modules name by their ids, if there is nothing else in the file."""
    encoders = [found for name in sorted(lora.roles) for found in outlined(name)[:1]]
    known = frozenset(found.arch.id for found in encoders).difference(arch.id for arch in DIFFUSION_ARCHES)
    return encoders if lora.roles and lora.roles == known else []
