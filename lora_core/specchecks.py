"""What the parts of an adapter must be before anything is made of them; each check raises AdapterError.

The messages begin with the file and the module, which callers pass as `where`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .adapters import KINDS, Shape
from .adapters.numbers import LARGEST, MAX_RANK
from .errors import AdapterError
from .files.tensorheader import MAX_DIMENSIONS, TensorInfo
from .files.tensors import Tensors
from .loraconfig import Scale

_FLAGS = ("on_input", "scaled")  # parts that are a yes or no


def check_dtypes(where: str, parts: Mapping[str, TensorInfo]) -> None:
    """Refuse what holds no real numbers, as factors do that another program has quantised."""
    for field, info in parts.items():
        if not info.is_float and field not in _FLAGS:
            raise AdapterError(
                f"{where}: {field} holds {info.dtype}, expected real numbers; "
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
