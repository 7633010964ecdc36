"""One adapter of a file, described from the header alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..adapters import KINDS, Adapter, DoRA, LoRA, Reshape, Shape
from ..adapters.cost import check_growth, check_room, check_room_alone
from ..adapters.dora import magnitude_fits, magnitude_is_of_input
from ..adapters.numbers import LARGEST, MAX_RANK
from ..adapters.reshape import can_grow
from ..errors import AdapterError
from ..files.tensorheader import MAX_DIMENSIONS, TensorInfo
from ..files.tensors import Tensors
from ..lazytorch import torch
from .loraconfig import Scale


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """One adapter of a file."""

    module: str  # as the trainer names it
    param: str  # the parameter that it changes
    kind: str  # key of KINDS
    parts: Mapping[str, TensorInfo]
    scale: Scale
    settings: Mapping[str, Any] = field(default_factory=dict)  # what `from_parts` and `fits` need besides
    magnitude: TensorInfo | None = None  # DoRA's
    peft_magnitude: bool = False
    new_shape: Shape | None = None  # the weight is padded to it
    optional: bool = False  # its parameter may be missing in the checkpoint
    around: Mapping[str, TensorInfo] = field(default_factory=dict)  # tensors that tell alpha, rank and shape

    @property
    def has_alpha(self) -> bool:
        """Whether a tensor tells alpha."""
        return "alpha" in self.around

    @property
    def names(self) -> tuple[str, ...]:
        """The module's names, the first that is known counts: with PEFT's name of the adapter if that was left in.

        A trainer that leaves it in may hold rows in another order than those that write the same name without it.
        """
        ends = (info.name[len(self.module) :] for info in self.parts.values())
        return (f"{self.module}.default", self.module) if any(".default." in end for end in ends) else (self.module,)

    @property
    def shapes(self) -> dict[str, Shape]:
        return {name: info.shape for name, info in self.parts.items()}

    @property
    def kinds(self) -> list[str]:
        """The kinds' names for people. DoRA is one of LoRA unless another kind is named beside it."""
        own = KINDS[self.kind].kind
        names = [own] if self.magnitude is None or own != LoRA.kind else []
        return names + [DoRA.kind] * (self.magnitude is not None) + [Reshape.kind] * (self.new_shape is not None)

    @property
    def is_lora(self) -> bool:
        """Whether it is LoRA by its own tensors, whatever is around them."""
        return self.kind == LoRA.id

    @property
    def is_portable(self) -> bool:
        """Whether its tensors alone, under other names, are the same adapter."""
        return KINDS[self.kind].is_portable

    def delta_shape(self) -> Shape:
        """Return the shape of the change, 0 for a size that the parts do not tell."""
        try:
            return self.new_shape or KINDS[self.kind].delta_shape(self.shapes)
        except AdapterError as error:
            raise AdapterError(f"{self.module}: {error}.") from error

    def fits(self, weight: Shape) -> bool:
        """Tell whether the adapter can change a parameter of this shape, as the adapter sees it."""
        if self.new_shape is not None:
            if not can_grow(weight, self.new_shape):
                return False
            weight = self.new_shape
        if self.magnitude and not magnitude_fits(self.magnitude.shape, self.magnitude_of_input, weight):
            return False
        return KINDS[self.kind].fits(self.shapes, weight, **self.settings)

    def check_room(self, where: str, weight: Shape | None = None) -> None:
        """Raise AdapterError if it takes far more memory than its weight, or than itself where no weight is known."""
        kind = KINDS[self.kind]
        if weight is None:
            check_room_alone(where, kind, self.shapes, **self.settings)
            return
        if self.new_shape is not None:
            check_growth(where, weight, self.new_shape)
        check_room(where, kind, self.shapes, self.new_shape or weight, **self.settings)

    @property
    def magnitude_of_input(self) -> bool:
        """Whether the magnitude is of the weight's input axis."""
        shape = () if self.magnitude is None else self.magnitude.shape
        return KINDS[self.kind].magnitude_of_input or magnitude_is_of_input(shape, self.peft_magnitude)

    @property
    def rank(self) -> int | None:
        return KINDS[self.kind].rank_of(self.shapes)

    def read(self, tensor: Callable[[str], torch.Tensor]) -> Adapter:
        """Make the adapter with tensors from `tensor`, asked by name."""
        parts = {name: tensor(info.name) for name, info in self.parts.items()}
        adapter = KINDS[self.kind].from_parts(parts, self.scale.value, **self.settings)
        if self.magnitude is not None:
            magnitude = tensor(self.magnitude.name).flatten()
            adapter = DoRA(adapter, magnitude, self.magnitude_of_input, self.peft_magnitude)
        return adapter if self.new_shape is None else Reshape(adapter, self.new_shape)

    def tensor_names(self) -> list[str]:
        """Return the names of the tensors that `read` asks for."""
        return [info.name for info in (*self.parts.values(), self.magnitude) if info is not None]


def check_dtypes(where: str, parts: Mapping[str, TensorInfo], flags: Collection[str]) -> None:
    """Refuse what holds no real numbers, `flags` apart, as factors do that another program has quantised."""
    for name, info in parts.items():
        if not info.is_float and name not in flags:
            raise AdapterError(
                f"{where}: {name} holds {info.dtype}, expected real numbers; "
                "it is damaged, or quantised in a way that this version does not know."
            )


def check_rank(where: str, rank: int | None) -> None:
    if rank is not None and rank > MAX_RANK:
        raise AdapterError(f"{where}: has rank {rank}, and none is above {MAX_RANK}; the file is damaged.")


def checked_scale(where: str, scale: Scale) -> Scale:
    if abs(scale.value) > LARGEST:
        raise AdapterError(
            f"{where}: alpha {scale.alpha:g} makes a scale of {scale.value:g}, and none is above {LARGEST:.0e}; "
            "the file is damaged."
        )
    return scale


def stored_shape(
    where: str, file: Tensors, info: TensorInfo, kind: str, shapes: Mapping[str, Shape], settings: Mapping[str, Any]
) -> Shape:
    """Return the shape that a tensor lists, which the weight is padded to, if it is one that the parts make."""
    is_list = len(info.shape) == 1 and 0 < info.shape[0] <= MAX_DIMENSIONS  # known before anything is read
    sizes = file.tensor(info.name).tolist() if is_list else [0]
    shape = tuple(int(size) for size in sizes if size >= 1 and size % 1 == 0)
    if len(shape) != len(sizes) or not KINDS[kind].fits(shapes, shape, **settings):
        raise AdapterError(
            f"{where}: reshape_weight lists {sizes if is_list else list(info.shape)}, expected a shape that the parts "
            f"make, {list(KINDS[kind].delta_shape(shapes))}; the file is damaged."
        )
    return shape
