"""What an architecture is: a value that tells how to recognise it and what else its modules are called.

Templates are dotted names; a whole token may be a number, `{i}` or `{j}` (any number), and the last may be `{rest}`
(everything that follows). Matching is on whole names, and the order of rows does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]  # key -> shape
Settings = Mapping[str, Any]  # what a file's header says of how its diffusion model is built
NameStyle = Literal["here", "there"]  # the checkpoint's own names, or those that the rename rows give


@dataclass(frozen=True, slots=True)
class Rename:
    """Another name of a module: `here` in the architecture's own layout, `there` in other files.

    Where one side lists several names, the other side fuses them, one after the other, along the output axis.
    """

    here: str | tuple[str, ...]
    there: str | tuple[str, ...]
    sizes: tuple[int, ...] = ()  # relative lengths of the pieces that are fused here; equal if empty
    order: tuple[int, ...] = ()  # the equal pieces of the output axis as they lie there, each by its number here
    transposed: bool = False  # the matrix lies on its side here
    chunks: int | Fraction | None = None  # applies only to a weight whose output is this many times its input
    read_only: bool = False  # a spelling to read and never to write


@dataclass(frozen=True, slots=True)
class Signature:
    """A condition on the keys and shapes of a component, prefix removed; None in a shape fits any size.

    An edition may ask for settings of the file's header too: a header may be lost, so an architecture does not.
    """

    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    shapes: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)  # key -> its first sizes
    settings: Settings = field(default_factory=dict)  # where only a file's header tells

    def fits(self, shapes: Shapes, prefix: str = "", settings: Settings | None = None) -> bool:
        said = settings or {}
        return (
            all(key in said and said[key] == value for key, value in self.settings.items())
            and all(prefix + key in shapes for key in self.has)
            and not any(prefix + key in shapes for key in self.lacks)
            and all(_fits_shape(shapes.get(prefix + key), wanted) for key, wanted in self.shapes.items())
        )


@dataclass(frozen=True, slots=True, eq=False)
class Edition:
    """One size or release of an architecture."""

    id: str
    title: str
    where: Signature
    text_encoders: Mapping[str, tuple[str, ...]] | None = None  # where they are others than the architecture's


@dataclass(frozen=True, slots=True, eq=False)
class Arch:
    """One architecture of a diffusion model or a text encoder.

    Its own layout is the one that fuses most, usually the makers'; the rename rows lead from there to every other.
    """

    id: str
    title: str
    signatures: tuple[Signature, ...]  # any of them, of files in its own layout
    prefixes: tuple[str, ...]  # what may stand before its keys in a file
    others: tuple[Signature, ...] = ()  # of files whose modules have the names that the rename rows give (diffusers)
    role: Literal["diffusion", "text_encoder"] = "diffusion"
    renames: tuple[Rename, ...] = ()
    editions: tuple[Edition, ...] = ()
    text_encoders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # encoder's id -> numbers, usual first
    beside: tuple[Rename, ...] = ()  # other names of what stands beside the model in its files, full names of keys
    kohya_names: NameStyle = "here"  # which names kohya's trainers write
    kohya_modules: str = ""  # kohya's trainers name only modules that begin so
    diffusers_name: str = "transformer"  # what a pipeline there calls a diffusion model
    blocks: Mapping[str, str] = field(default_factory=dict)  # group of blocks -> the modules that it counts
    block_presets: Mapping[str, str] = field(default_factory=dict)  # name -> strengths of blocks, as users write them
    host_splits: tuple[str, ...] = ()  # how modules begin whose fused weights ComfyUI splits, as are names for it then


# What stands before a diffusion model's keys: in checkpoints, inside ComfyUI, in model-only files, in pipelines.
DIFFUSION_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "model.model.", "net.", "transformer.", "")


def _fits_shape(found: Shape | None, wanted: tuple[int | None, ...]) -> bool:
    if found is None or len(found) < len(wanted):
        return False
    return all(want is None or want == size for want, size in zip(wanted, found, strict=False))
