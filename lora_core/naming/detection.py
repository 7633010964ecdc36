"""Which architectures a file holds, from its keys and shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from ..arch import DIFFUSION_ARCHES, ENCODER_ARCHES
from ..arch.base import DIFFUSION_PREFIXES, Arch, Edition, Rename, Settings, Shape, Shapes
from .renames import renames_of

# Key endings that are another spelling of a module's parameter
_PARAM_SPELLINGS = {"scale": "weight"}  # BFL's norms
_FUSED_PARAMS = {"in_proj_weight": ("in_proj", "weight"), "in_proj_bias": ("in_proj", "bias")}  # torch's attention


@dataclass(frozen=True, slots=True)
class FoundArch:
    """An architecture found in a file: its keys are those that start with `prefix`."""

    arch: Arch
    edition: Edition | None
    prefix: str
    renamed: bool = False  # the file's modules have other names than the architecture's own layout, e.g. diffusers'

    @property
    def id(self) -> str:
        return self.edition.id if self.edition else self.arch.id

    @property
    def title(self) -> str:
        return self.edition.title if self.edition else self.arch.title

    @property
    def text_encoders(self) -> Mapping[str, tuple[str, ...]]:
        own = self.edition.text_encoders if self.edition else None
        return self.arch.text_encoders if own is None else own


def detect(shapes: Shapes, settings: Settings | None = None) -> list[FoundArch]:
    """Return what the keys hold: the diffusion model if there is one, then text encoders.

    `settings` tell editions apart whose keys are the same.

    Of the text encoders that fit at one prefix the first counts: those of a known size stand before their families.
    A language model that is a part of the diffusion model is no text encoder.
    """
    fits = (_fit(arch, shapes, prefix, settings) for arch in DIFFUSION_ARCHES for prefix in arch.prefixes)
    found = [item for item in fits if item]
    inside = tuple(item.prefix for item in found if item.prefix)
    beside = {key: shape for key, shape in shapes.items() if not key.startswith(inside)} if inside else shapes
    taken = {item.prefix for item in found}  # and of text encoders
    for arch in ENCODER_ARCHES:
        for prefix in arch.prefixes:
            item = None if prefix in taken else _fit(arch, beside, prefix)
            if item:
                found.append(item)
                taken.add(prefix)
    return found


def own_prefix(shapes: Shapes) -> str:
    """Return what stands before the keys of a diffusion model that no architecture fits: before most of them."""
    counts = {prefix: sum(key.startswith(prefix) for key in shapes) for prefix in DIFFUSION_PREFIXES}
    return next((prefix for prefix, count in counts.items() if 2 * count > len(shapes)), "")


@cache
def unknown_arch(title: str, prefix: str, renames: tuple[Rename, ...] = ()) -> FoundArch:
    """Return an architecture with no other names than `renames`: what a host loads and LoRA Core does not know."""
    return FoundArch(Arch(title, title, signatures=(), prefixes=(prefix,), renames=renames), None, prefix)


def _fit(arch: Arch, shapes: Shapes, prefix: str, settings: Settings | None = None) -> FoundArch | None:
    if any(signature.fits(shapes, prefix) for signature in arch.signatures):
        return FoundArch(arch, _edition(arch, shapes, prefix, settings), prefix)
    if any(signature.fits(shapes, prefix) for signature in arch.others):
        own = own_shapes(arch, shapes, prefix) if arch.editions else {}
        return FoundArch(arch, _edition(arch, own, "", settings), prefix, renamed=True)
    return None


def _edition(arch: Arch, shapes: Shapes, prefix: str, settings: Settings | None) -> Edition | None:
    return next((edition for edition in arch.editions if edition.where.fits(shapes, prefix, settings)), None)


def own_shapes(arch: Arch, shapes: Shapes, prefix: str) -> dict[str, Shape]:
    """Return {key: shape} as the architecture's own layout would have them."""
    engine = renames_of(arch)
    own: dict[str, Shape] = {}
    modules = params_of(prefix, shapes)
    for module, params in modules.items():
        weight = params.get("weight")
        place = engine.origin(module, shapes[weight] if weight else ())
        if place.module == module and weight == prefix + module and module.rpartition(".")[0] in modules:
            continue  # a parameter by its full name: it moves with its module
        for param, key in params.items():
            shape, local = shapes[key], key[len(prefix) :]
            if local != module and engine.origin(local, shape).module not in (local, f"{place.module}.{param}"):
                continue  # a parameter that a row of its own names
            if place.transposed:
                shape = shape[::-1]
            if shape:
                shape = (shape[0] * place.of // (place.end - place.begin), *shape[1:])
            # what was a parameter and a module of its own there may be a bare parameter here
            own.setdefault(place.module if local == module else f"{place.module}.{param}", shape)
    return own


def params_of(prefix: str, shapes: Shapes) -> dict[str, dict[str, str]]:
    """Return {module: {parameter: key}} of the keys below `prefix`; a parameter is a module of its own too."""
    modules: dict[str, dict[str, str]] = {}
    for key in shapes:
        if not key.startswith(prefix):
            continue
        local = key[len(prefix) :]
        head, _, last = local.rpartition(".")
        joined, param = _FUSED_PARAMS.get(last, ("", _PARAM_SPELLINGS.get(last, last)))
        module = ".".join(name for name in (head, joined) if name)
        if module:
            modules.setdefault(module, {}).setdefault(param, key)
        if param != "weight":
            modules.setdefault(local, {}).setdefault("weight", key)
    return modules


def describe(found: list[FoundArch]) -> tuple[str, str]:
    """Return (id, title) of what a file holds."""
    diffusion = [item for item in found if item.arch.role == "diffusion"] or found
    return "+".join(item.id for item in diffusion), " and ".join(item.title for item in diffusion)
