"""Every architecture that LoRA Core knows, and how to find them in a file's keys and shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from .base import Arch, Edition, Shape, Shapes
from .flux import FLUX1
from .sd3 import SD3
from .text_encoders import TEXT_ENCODERS
from .unet import UNETS
from .wan import WAN21

ARCHES: tuple[Arch, ...] = (*UNETS, FLUX1, SD3, WAN21, *TEXT_ENCODERS)
DIFFUSION_ARCHES = tuple(arch for arch in ARCHES if arch.role == "diffusion")


@dataclass(frozen=True, slots=True)
class Found:
    """An architecture found in a file: its keys are those that start with `prefix`."""

    arch: Arch
    edition: Edition | None
    prefix: str

    @property
    def id(self) -> str:
        return self.edition.id if self.edition else self.arch.id

    @property
    def title(self) -> str:
        return self.edition.title if self.edition else self.arch.title


def detect(shapes: Shapes) -> list[Found]:
    """Return what the keys hold: the diffusion model if there is one, then text encoders."""
    found: list[Found] = []
    for arch in ARCHES:
        for prefix in arch.prefixes:
            if any(signature.fits(shapes, prefix) for signature in arch.signatures):
                edition = next((e for e in arch.editions if e.where.fits(shapes, prefix)), None)
                found.append(Found(arch, edition, prefix))
    return found


def guess_arches(modules: Iterable[tuple[str, Shape | None]]) -> list[Arch]:
    """Return the diffusion architectures that a LoRA's modules fit best, judging by their marks.

    `modules` are names without dialect prefix, dots written as `_`, each with the shape of its change if known.
    """
    hits: Counter[str] = Counter()
    for name, shape in modules:
        for arch in DIFFUSION_ARCHES:
            hits[arch.id] += any(mark.fits(name, shape) for mark in arch.marks)
    best = max(hits.values(), default=0)
    return [arch for arch in DIFFUSION_ARCHES if best and hits[arch.id] == best]
