"""What a kind that files hold says of itself, before there is an adapter of it.

A kind is one file with one frozen class, or a small family, listed in `KINDS`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol

from ..lazytorch import torch
from ..naming.dialects import Family, Loader
from .base import Adapter
from .numbers import holds_zeros
from .packing import tensors_of
from .parts import Parts
from .shapes import Shape, Shapes, fits_shape
from .spelling import Part, written_suffix

AlphaUse = Literal["scale", "constraint", "none"]  # alpha / rank multiplies the delta; or alpha bounds a rotation


class Told(Protocol):
    """What a file says of a module beside the shapes of its parts, read when it is asked."""

    @property
    def module(self) -> str: ...

    def alpha(self) -> float | None: ...

    def number(self, field: str) -> float:
        """Return the value of a part that is one number."""
        ...

    @property
    def is_peft(self) -> bool:
        """Whether PEFT's own configuration is known."""
        ...

    def option(self, name: str) -> Any:
        """Return a value of PEFT's configuration, None if there is none."""
        ...

    def is_feedforward(self) -> bool | None:
        """Tell whether PEFT's configuration lists the module as feed-forward; None if there is none."""
        ...


@dataclass(frozen=True, slots=True)
class StoredAdapter(Adapter):
    """A kind that files hold, part by part; the other adapters wrap one."""

    id: ClassVar[str]  # key of KINDS
    suffixes: ClassVar[tuple[Part, ...]]  # how its parts are spelled, the one that is written first
    flags: ClassVar[tuple[str, ...]] = ()  # parts that are a yes or no
    alpha: ClassVar[AlphaUse] = "none"
    folds: ClassVar[tuple[tuple[str, ...], ...]] = ()  # parts that may take the scale, one of every product each
    scaled_with: ClassVar[str] = ""  # the kind beside it whose scale is its own too
    is_wrapped: ClassVar[bool] = True  # a magnitude or a new shape of the module's weight is around it
    magnitude_of_input: ClassVar[bool] = False  # a magnitude that is a vector is the input's
    is_portable: ClassVar[bool] = True  # its tensors alone tell what it is, so that they may get other names
    has_factors: ClassVar[bool] = False  # low_rank() or svd() tells any of its changes, so that it can be resized
    read_by: ClassVar[frozenset[Loader]] = frozenset(("comfyui",))

    # Its tensors

    @classmethod
    @abstractmethod
    def delta_shape(cls, shapes: Shapes) -> Shape:
        """Return the shape of the change from the parts' shapes; raises AdapterError if they contradict."""

    @classmethod
    def fits(cls, shapes: Shapes, weight: Shape, **settings: Any) -> bool:
        """Tell whether an adapter of these parts can change a parameter of the shape `weight`."""
        return fits_shape(cls.delta_shape(shapes), weight)

    @classmethod
    def rank_of(cls, shapes: Shapes) -> int | None:
        """Return the rank that divides alpha, or None for kinds that alpha does not scale."""
        return None

    @classmethod
    @abstractmethod
    def from_parts(cls, parts: Mapping[str, torch.Tensor], scale: float, **settings: Any) -> Adapter:
        """Make the adapter; `settings` are what a kind needs to know beyond tensors, e.g. OFT its constraint."""

    @classmethod
    def room(cls, shapes: Shapes, weight: Shape, **settings: Any) -> int:
        """Return how many numbers are made at a time, at most, beside as many as the parts have: see `cost`."""
        return math.prod(weight)

    @classmethod
    def settings_of(cls, shapes: Shapes, told: Told) -> dict[str, Any]:
        """Return the settings of a module's adapter."""
        return {}

    @classmethod
    def is_meant(cls, module: str, shapes: Shapes) -> bool:
        """Tell whether parts are of this kind, where others are spelled alike: the first in KINDS takes them."""
        return True

    @classmethod
    def also_changes(cls, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """Return further parameters of the module that the adapter changes where the model has them."""
        return ()

    # In another file

    @classmethod
    def in_files(cls, fields: Mapping[str, torch.Tensor]) -> tuple[str, Mapping[str, torch.Tensor]]:
        """Return the kind, and its parts, as which an adapter of these parts is written."""
        return cls.id, fields

    @classmethod
    def suffix(cls, family: Family, field: str, param: str, module: str) -> str | None:
        """Return how a part is spelled in a file that is written, None if the parameter must be named before it."""
        return written_suffix(cls.suffixes, family, field, param)

    @classmethod
    def as_layers(cls, fields: Mapping[str, torch.Tensor], shape: Shape, module: str) -> Mapping[str, torch.Tensor]:
        """Return the parts as PEFT's layers of a weight of this shape, of a module of this name, have them."""
        return fields

    @classmethod
    def unread(cls, loader: Loader, parts: Parts, file: Sequence[Parts]) -> str | None:
        """Return what a loader leaves out of a file of these parts, empty for all of the kind; None if it reads it."""
        return None if loader in cls.read_by else ""


@dataclass(frozen=True, slots=True)
class ScaledAdapter(StoredAdapter):
    """A kind whose whole delta is multiplied by `scale`, its last field, and by each of its tensors."""

    alpha: ClassVar[AlphaUse] = "scale"

    def is_zero(self) -> bool:
        return self.scale == 0 or any(map(holds_zeros, tensors_of(self)))  # pyright: ignore[reportAttributeAccessIssue]

    def comfyui_change(self, weight: torch.Tensor, strength: float) -> torch.Tensor:
        """Strength · scale is one number there, rounded once."""
        return replace(self, scale=strength * self.scale).delta(weight)  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
