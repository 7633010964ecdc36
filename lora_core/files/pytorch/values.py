"""What the structure of a PyTorch file may hold, as values of our own: nothing that it names is looked up or called.

Tensors are told by what they are made of. Whatever else torch or a trainer writes is a name without content.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..dtypes import DTYPES
from ..tensorheader import MAX_DIMENSIONS, MAX_NAME_BYTES, element_count
from .archive import ZipMember


class StructureError(ValueError):
    """The structure is broken, or asks for what no file of tensors needs."""


@dataclass(frozen=True, slots=True, eq=False)
class Named:
    """A class or a function that the structure names."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, eq=False)
class Opaque:
    """Something that is no plain tensor, and is not made: only what it is called."""

    name: str
    is_tensor: bool = False

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, eq=False)
class PickledStorage:
    """A member of the archive, and the format of its numbers; "" if each tensor says it."""

    dtype: str
    member: ZipMember


@dataclass(frozen=True, slots=True, eq=False)
class PickledTensor:
    """A tensor of a storage; sizes, steps and the place of its first element are counted in elements."""

    dtype: str
    member: ZipMember
    first: int
    shape: tuple[int, ...]
    steps: tuple[int, ...]

    @property
    def width(self) -> int:
        return DTYPES[self.dtype][0]

    @property
    def nbytes(self) -> int:
        return element_count(self.shape) * self.width

    @property
    def extent(self) -> int:
        """The elements from the first to the last, those between included."""
        if 0 in self.shape:
            return 0
        return 1 + sum((size - 1) * abs(step) for size, step in zip(self.shape, self.steps, strict=True))


# Storages by their names in torch -> the header's name of their numbers
_STORAGES = {
    "Double": "F64", "Float": "F32", "Half": "F16", "BFloat16": "BF16", "Long": "I64", "Int": "I32", "Short": "I16",
    "Char": "I8", "Byte": "U8", "Bool": "BOOL", "ComplexFloat": "C64",
}  # fmt: skip
_STORAGE = re.compile(r"torch\.(?:cuda\.)?(\w{1,20})Storage")
_UNTYPED = ("torch.storage.UntypedStorage", "torch.UntypedStorage")
_DTYPES = {f"torch.{attribute}": name for name, (_, attribute) in DTYPES.items()}

_DICT = "collections.OrderedDict"
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_WITH_ATTRIBUTES = "torch._tensor._rebuild_from_type_v2"
_REBUILT = {
    "torch._utils._rebuild_tensor": 4,
    "torch._utils._rebuild_tensor_v2": 6,
    "torch._utils._rebuild_tensor_v3": 7,
}
# All that may be named. A name of anything else is a payload, or a file of which we know nothing
_KNOWN = re.compile(
    r"collections\.(?:OrderedDict|Counter|defaultdict|deque)|_codecs\.encode"
    r"|(?:builtins|__builtin__)\.(?:set|frozenset|complex|bytearray|dict|list)"
    r"|torch\._utils\._rebuild_\w+|torch\._tensor\._rebuild_from_type_v2|torch\.serialization\._get_layout"
    r"|torch\.nn\.parameter\.Parameter|torch\.storage\.(?:Untyped|Typed)Storage"
    r"|torch\.(?:cuda\.|sparse\.|cuda\.sparse\.)?\w*(?:Storage|Tensor)|torch\.(?:Size|device|bool|per_\w+)"
    r"|torch\.(?:b?float|complex|q?u?int|bits)[0-9]\w*"
    r"|numpy\.(?:dtype|ndarray|_?core\.multiarray\.(?:scalar|_reconstruct))"
    r"|(?:pytorch_lightning|lightning|lightning_fabric)\.[\w.]+"
)


def named(name: str) -> Named:
    if not _KNOWN.fullmatch(name):
        raise StructureError(f"it names {name[:80]}, which is no part of a model")
    return Named(name)


def made(what: Any, given: Any) -> Any:
    """Return what a call in the structure stands for."""
    if type(what) is not Named or type(given) is not tuple:
        raise StructureError("it calls what is no function")
    name = what.name
    if name == _DICT:
        if given not in ((), ([],)):
            raise StructureError("an ordered dict with content of its own")
        return {}
    if name in _PARAMETERS:
        return _first(given)
    if name == _WITH_ATTRIBUTES:
        return _with_attributes(given)
    if name in _REBUILT:
        return _rebuilt(name, given)
    return Opaque(name, is_tensor="._rebuild_" in name or name.endswith(("Tensor", ".Parameter")))


def storage_of(saved: Any, members: Mapping[str, ZipMember]) -> PickledStorage:
    """Return the storage that a reference to a member means, its elements proven to be in that member."""
    if type(saved) is not tuple or len(saved) != 5 or type(saved[2]) is not str or saved[0] != "storage":
        raise StructureError("it refers to something that is no storage")
    _, kind, key, _, count = saved
    member = members.get(key) if len(key) <= MAX_NAME_BYTES else None
    if member is None:
        raise StructureError(f"no member holds the storage {key[:40]!r}")
    name = kind.name if type(kind) is Named else ""
    match = _STORAGE.fullmatch(name)
    dtype = "" if name in _UNTYPED else _STORAGES.get(match[1], match[1]) if match else None
    if dtype is None or type(count) is not int or count < 0:
        raise StructureError("it has a storage of no known kind")
    width = DTYPES[dtype][0] if dtype in DTYPES else 1
    if count * width > member.nbytes:
        raise StructureError(
            f"the storage {key[:40]!r} claims {str(count)[:40]} elements, which its member does not hold"
        )
    return PickledStorage(dtype, member)


def _first(given: tuple[Any, ...]) -> Any:
    if not given or type(given[0]) not in (PickledTensor, Opaque):
        raise StructureError("a parameter that is no tensor")
    return given[0]


def _with_attributes(given: tuple[Any, ...]) -> Any:
    """Return a tensor that was saved with attributes, which are left out."""
    function, kind = given[:2] if len(given) == 4 else (None, None)
    if type(function) is not Named or type(kind) is not Named or function.name == _WITH_ATTRIBUTES:
        raise StructureError("a tensor that can't be made")
    tensor = made(function, given[2])
    return tensor if kind.name in ("torch.Tensor", "torch.nn.parameter.Parameter") else Opaque(kind.name, True)


def _rebuilt(name: str, given: tuple[Any, ...]) -> PickledTensor | Opaque:
    storage, first, shape, steps = given[:4] if len(given) >= _REBUILT[name] else (None, 0, (), ())
    if type(storage) is not PickledStorage or type(shape) is not tuple or type(steps) is not tuple:
        raise StructureError("a tensor that can't be made")
    dtype, metadata = storage.dtype or "U8", given[6:7]
    if name.endswith("_v3"):
        kind, metadata = given[6], given[7:8]
        dtype = _DTYPES.get(str(kind), str(kind)) if type(kind) is Named else ""
    is_odd = len(shape) > MAX_DIMENSIONS or any(metadata) or dtype not in DTYPES
    if is_odd:  # negated, conjugated, or of numbers that are not read: refused where it is a weight
        return Opaque(f"a tensor of {dtype[:40]}", is_tensor=True)
    counts = (first, *shape, *steps)
    are_counts = all(type(one) is int and abs(one) < 2**63 for one in counts)
    if len(shape) != len(steps) or not are_counts or min(shape, default=0) < 0:
        raise StructureError("a tensor whose shape is no shape")
    return PickledTensor(dtype, storage.member, first, shape, steps)
