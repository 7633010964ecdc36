"""Which model a LoRA is converted for: the one that is named or given, else the one that its modules fit best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..arch import ARCHES, DIFFUSION_ARCHES
from ..arch.base import Shapes
from ..errors import OptionError, UnknownArchError
from ..naming.detection import FoundArch, describe, own_shapes
from ..naming.dialects import DIFFUSION, addressed_roles
from ..naming.keymap import KeyMap
from ..naming.outlines import diffusers_names, outlined, outlines_of, read_outline
from ..reading.checkpoint import Checkpoint
from ..reading.lorafile import LoraFile
from ..text import some_names
from .names import Writing, written
from .plan import plan

File = tuple[Shapes, Sequence[FoundArch]]


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
        return _model([_own_layout(base, found) for found in base.found], lora)
    candidates = outlined(arch) if arch else [found for guess in lora.arches for found in outlines_of(guess)]
    if arch and not candidates:
        known = sorted({item.id for one in ARCHES for item in outlines_of(one)})
        raise OptionError(f"arch: expected the id of a model, found {arch!r}; known are {', '.join(known)}.")
    if not candidates:
        candidates = _named_encoders(lora)
        if candidates and writing.id in ("comfy", "peft"):  # the others count the encoders of a model
            return _model([_outline(found) for found in candidates], lora)
        raise UnknownArchError(
            f"{lora.name}: its names and shapes do not tell which model it is for, e.g. {lora.modules[0]!r}; "
            "name it with --arch, or give it with --base."
        )
    return _best(lora, candidates, writing)


def _model(files: list[File], lora: LoraFile) -> ModelNames:
    """Return the model with the text encoders that belong to it, if the LoRA changes any."""
    found = [item for _, items in files for item in items]
    title = describe(found)
    if {role for module in lora.modules for role in addressed_roles(module)} - {DIFFUSION}:
        held = {item.arch.id for item in found}
        families = [item for item in found if item.arch.role == "diffusion"]
        wanted = dict.fromkeys(name for family in families for name in family.text_encoders if name not in held)
        files = [*files, *(_outline(item) for name in wanted for item in outlined(name)[:1])]
    names = {item.arch.id: diffusers_names(item) for _, items in files for item in items}
    return ModelNames(*title, KeyMap(*(_numbered(number, *file) for number, file in enumerate(files))), names)


def _numbered(number: int, shapes: Shapes, found: Sequence[FoundArch]) -> File:
    """Return a file with its number before its keys: two text encoders may have keys alike."""
    start = f"{number}/"
    keys = {start + key: shape for key, shape in shapes.items()}
    return keys, [replace(item, prefix=start + item.prefix) for item in found]


def _outline(found: FoundArch) -> File:
    return read_outline(found.id).shapes, [found]


def _own_layout(base: Checkpoint, found: FoundArch) -> File:
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
    counts = {found.id: _fitting(lora, found) for found in candidates} if len(candidates) > 1 else {}
    best = [found for found in candidates if counts.get(found.id) == max(counts.values(), default=None)]
    best.sort(key=lambda found: len(read_outline(found.id).shapes))
    arches = {found.arch.id: found for found in reversed(best)}  # the smallest of each
    models = [_model([_outline(found)], lora) for found in reversed(arches.values())]
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


def _fitting(lora: LoraFile, found: FoundArch) -> int:
    """Return how many adapters have a place of their shape in this model."""
    keymap = _model([_outline(found)], lora).keymap
    places = ((spec, keymap.find(spec.module, spec.param)) for spec in lora.adapters)
    return sum(bool(targets) and spec.fits(targets[0].adapter_shape) for spec, targets in places)


def _named_encoders(lora: LoraFile) -> list[FoundArch]:
    """Return the text encoders that modules name by their ids, if there is nothing else in the file."""
    named = {role for module in lora.modules for role in addressed_roles(module)}
    encoders = [found for name in sorted(named) for found in outlined(name)[:1]]
    known = {found.arch.id for found in encoders} - {arch.id for arch in DIFFUSION_ARCHES}
    return encoders if named and named == known else []
