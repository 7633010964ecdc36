"""PyTorch files (.ckpt, .pt, .pth, .bin), read with torch's weights-only reader: tensors, and nothing that could run.

The structure alone is unpickled, with storages that hold nothing; then each tensor is proven to lie in the bytes that
the archive has for it, and is read by position when it is asked for. So memory stays small, and a file that is cut
meanwhile is an error as of any other format, where a map of the file would end the process.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FileFormatError
from ..lazytorch import torch
from ..text import counted, some_names
from .dtypes import DTYPES, dtype_name
from .openfile import OpenFile
from .pytorchzip import INSTEAD, PytorchZip, ZipMember, open_pytorch_zip
from .tensorfile import byte_view
from .tensorheader import MAX_DIMENSIONS, MAX_NAME_BYTES, MAX_TENSORS, TensorInfo
from .tensors import Tensors, memory_for

MAX_AMPLIFICATION = 4  # tensors may share memory, but all together not claim more than so many times the file
MAX_NESTING = 4
# What trainers call the weights in a checkpoint of theirs, beside epochs and optimizers; an adapter before its base
_WEIGHTS = (
    *("lora", "lora_state_dict", "lora_weights", "adapter", "adapter_state_dict", "peft", "peft_state_dict"),
    *("state_dict", "model_state_dict", "model", "network", "module", "params_ema", "params", "weights", "net"),
)


@dataclass(frozen=True, slots=True)
class _Stored:
    """A tensor without its numbers, and where its first one lies in the file."""

    like: torch.Tensor  # on the device meta
    start: int

    @property
    def extent(self) -> int:
        """The elements from the first to the last, those between included."""
        return _extent(self.like)


class PickledFile(Tensors):
    """An open PyTorch file: the tensors of its state dict.

    Raises FileFormatError for whatever is not a plain dict of plain tensors.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.metadata = {}
        self._file = OpenFile(self.path, "a model file")
        try:
            content, members = _unpickled(self.path, open_pytorch_zip(self._file))
            found, ignored = _state_dict(content)
            self._file.check_unchanged()  # what was read is what was checked
            self._tensors = dict(_checked(self.path, found, members, self.size))
        except BaseException:
            self._file.close()
            raise
        self._infos = {
            name: TensorInfo(name, dtype_name(stored.like.dtype), tuple(stored.like.shape), 0, stored.like.nbytes)
            for name, stored in self._tensors.items()
        }
        if ignored:
            what = counted(ignored, "value")
            self.warnings = (f"{self.path.name}: {what} ignored, not tensors of the model: {some_names(ignored)}.",)

    def close(self) -> None:
        self._file.close()

    def tensor(self, name: str) -> torch.Tensor:
        stored = self._tensors[name]
        like = stored.like
        if like.numel() == 0:
            return torch.empty(like.shape, dtype=like.dtype)
        data = memory_for(f"{self.path.name}: tensor {name!r}", stored.extent * like.element_size())
        self._file.read_into(byte_view(data), stored.start)
        return torch.as_strided(data.view(like.dtype), like.shape, like.stride()).contiguous()

    def check_unchanged(self) -> None:
        self._file.check_unchanged()

    @property
    def size(self) -> int:
        return self._file.size


def _unpickled(path: Path, archive: PytorchZip) -> tuple[Any, dict[int, ZipMember]]:
    """Return what the structure holds, its storages empty, and the member that each storage stands for."""
    storages: dict[str, Any] = {}
    members: dict[int, ZipMember] = {}

    def storage(saved: Any) -> Any:
        kind, storage_type, key, _, count = saved
        dtype = torch.uint8 if storage_type is torch.UntypedStorage else storage_type.dtype
        if kind != "storage" or key not in archive.storages:
            raise ValueError(f"no member holds the storage {str(key)[:40]!r}")
        if key not in storages:
            # of the member's size whatever the structure claims, so that nothing is read beyond it
            storages[key] = torch.UntypedStorage(archive.storages[key].nbytes, device="meta")
            members[_number(storages[key])] = archive.storages[key]
        if count * dtype.itemsize > archive.storages[key].nbytes:
            raise ValueError(f"the storage {key[:40]!r} claims {count} elements, which its member does not hold")
        return torch.storage.TypedStorage(wrap_storage=storages[key], dtype=dtype, _internal=True)

    content = _loaded(path, archive.structure, storage)
    return content, members


def _loaded(path: Path, structure: bytes, storage: Any) -> Any:
    reader: Any = torch._weights_only_unpickler  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    # every error of a structure that the reader can't or won't follow; UnpicklingError is its no
    refusals = (reader.UnpicklingError, RuntimeError, ValueError, LookupError, TypeError, AttributeError)
    try:
        unpickler = reader.Unpickler(io.BytesIO(structure), encoding="utf-8")
        unpickler.persistent_load = storage
        return unpickler.load()
    except (*refusals, AssertionError, ArithmeticError, EOFError, MemoryError, RecursionError, struct.error) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise FileFormatError(
            f"{path.name}: holds more than tensors, or is broken, and is not loaded ({reason}); {INSTEAD}."
        ) from None  # the cause quotes the file, and a log would print it as it is


def _state_dict(content: Any) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Return (tensors, names of what was ignored), from inside the dict of a trainer's checkpoint that holds them."""
    ignored: list[str] = []
    for _ in range(MAX_NESTING):  # a dict may hold itself
        inner = _inner(content)
        if inner is None:
            break
        ignored += [str(key)[:80] for key in content if key != inner]
        content = content[inner]
    tensors: dict[str, torch.Tensor] = {}
    for key, value in content.items() if isinstance(content, Mapping) else ():
        if isinstance(key, str) and isinstance(value, torch.Tensor):
            tensors[key] = value.detach()
        else:
            ignored.append(str(key)[:80])
    if not tensors and isinstance(content, (Mapping, list, tuple)):  # no weights, as far as we know
        tensors = _nested(content)
    return tensors, ignored


def _nested(content: Any) -> dict[str, torch.Tensor]:
    """Return the tensors of dicts and lists within one another, their names joined with dots: so files of other things
    than weights are known by their names. The first of so many values are looked at, however often they are shared."""
    found: dict[str, torch.Tensor] = {}
    waiting: list[tuple[str, int, Any]] = [("", 0, content)]
    looked_at = 0
    while waiting and looked_at < MAX_TENSORS:
        start, level, value = waiting.pop()
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            looked_at += 1
            name = f"{start}{key}"[:MAX_NAME_BYTES] if isinstance(key, (str, int)) else start
            if isinstance(inner, torch.Tensor):
                found[name] = inner.detach()
            elif isinstance(inner, (Mapping, list, tuple)) and level < MAX_NESTING:
                waiting.append((f"{name}.", level + 1, inner))
    return found


def _inner(content: Any) -> Any:
    """Return the key of a dict below which the weights are; None if they are in the dict itself."""
    if not isinstance(content, Mapping) or any(isinstance(value, torch.Tensor) for value in content.values()):
        return None
    dicts = [key for key, value in content.items() if isinstance(value, Mapping) and value]
    named = [key for key in _WEIGHTS if key in dicts]
    if named or len(dicts) == len(content) == 1:
        return (named or dicts)[0]
    of_tensors = [key for key in dicts if any(isinstance(value, torch.Tensor) for value in content[key].values())]
    return of_tensors[0] if len(of_tensors) == 1 else None


def _checked(
    path: Path, tensors: Mapping[str, torch.Tensor], members: Mapping[int, ZipMember], size: int
) -> Iterator[tuple[str, _Stored]]:
    """Yield the tensors, each proven to lie in its storage."""
    if not tensors or len(tensors) > MAX_TENSORS:
        found = f"found {len(tensors)}"
        raise FileFormatError(f"{path.name}: expected 1 to {MAX_TENSORS} named tensors, {found}; {INSTEAD}.")
    claimed = 0
    for name, tensor in tensors.items():
        where = f"{path.name}: tensor {name[:80]!r}"
        member = members.get(_number(tensor.untyped_storage())) if tensor.layout == torch.strided else None
        is_plain = not (tensor.is_quantized or tensor.is_conj() or tensor.is_neg()) and tensor.dim() <= MAX_DIMENSIONS
        if member is None or not is_plain or not 0 < len(name.encode("utf-8", "replace")) <= MAX_NAME_BYTES:
            raise FileFormatError(f"{where} is not a plain one; {INSTEAD}.")
        if not any(getattr(torch, attribute, None) is tensor.dtype for _, attribute in DTYPES.values()):
            raise FileFormatError(f"{where} holds {tensor.dtype}, which this version does not know.")
        width, first = tensor.element_size(), int(tensor.storage_offset())
        needed = max(tensor.numel(), first + _extent(tensor)) * width
        if needed > member.nbytes or first < 0 or min(tensor.stride(), default=0) < 0:
            raise FileFormatError(
                f"{where} claims {needed} bytes, its storage has {member.nbytes}; the file is made to harm."
            )
        claimed += tensor.nbytes
        yield name, _Stored(tensor, member.start + first * width)
    if claimed > MAX_AMPLIFICATION * size:
        raise FileFormatError(f"{path.name}: its tensors claim {claimed} bytes, the file has {size}; {INSTEAD}.")


def _number(storage: Any) -> int:
    """Return what tells storages apart as long as they are there."""
    return storage._cdata


def _extent(tensor: torch.Tensor) -> int:
    if tensor.numel() == 0:
        return 0
    return 1 + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
