"""PyTorch files (.ckpt, .pt, .pth, .bin), read without pickle: tensors, and nothing that could run.

The structure is read by our own reader, which makes no tensor; then each one is proven to lie in the bytes that the
archive has for it, and is read by position when it is asked for. So memory stays small, and a file that is cut
meanwhile is an error as of any other format, where a map of the file would end the process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import FileFormatError
from ...lazytorch import torch
from ...text import counted, some_names
from ..dtypes import torch_dtype
from ..openfile import OpenFile
from ..tensorfile import byte_view
from ..tensorheader import MAX_NAME_BYTES, MAX_TENSORS, TensorInfo
from ..tensors import Tensors, memory_for
from .archive import INSTEAD, PytorchZip, open_pytorch_zip
from .statedict import AnyTensor, state_dict
from .structure import read_structure
from .values import PickledTensor, StructureError

MAX_AMPLIFICATION = 4  # tensors may share memory, but all together not claim more than so many times the file


class PickledFile(Tensors):
    """An open PyTorch file: the tensors of its state dict.

    Raises FileFormatError for whatever is not a plain dict of plain tensors.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.metadata = {}
        self._file = OpenFile(self.path, "a model file")
        try:
            found, ignored = state_dict(_content(self.path, open_pytorch_zip(self._file)))
            self._file.check_unchanged()  # what was read is what was checked
            self._tensors = dict(_checked(self.path, found, self.size))
        except BaseException:
            self._file.close()
            raise
        self._infos = {
            name: TensorInfo(name, tensor.dtype, tensor.shape, 0, tensor.nbytes)
            for name, tensor in self._tensors.items()
        }
        if ignored:
            what = counted(ignored, "value")
            self.warnings = (f"{self.path.name}: {what} ignored, not tensors of the model: {some_names(ignored)}.",)

    def close(self) -> None:
        self._file.close()

    def tensor(self, name: str) -> torch.Tensor:
        stored = self._tensors[name]
        dtype = torch_dtype(stored.dtype)
        if stored.nbytes == 0:
            return torch.empty(stored.shape, dtype=dtype)
        data = memory_for(f"{self.path.name}: tensor {name!r}", stored.extent * stored.width)
        self._file.read_into(byte_view(data), stored.member.start + stored.first * stored.width)
        return torch.as_strided(data.view(dtype), stored.shape, stored.steps).contiguous()

    def check_unchanged(self) -> None:
        self._file.check_unchanged()

    @property
    def size(self) -> int:
        return self._file.size


def _content(path: Path, archive: PytorchZip) -> Any:
    try:
        return read_structure(archive.structure, archive.storages)
    except StructureError as error:
        raise FileFormatError(
            f"{path.name}: holds more than tensors, or is broken, and is not loaded ({error}); {INSTEAD}."
        ) from None  # the cause quotes the file, and a log would print it as it is


def _checked(path: Path, tensors: Mapping[str, AnyTensor], size: int) -> Iterator[tuple[str, PickledTensor]]:
    """Yield the tensors, each proven to lie in its storage."""
    if not tensors or len(tensors) > MAX_TENSORS:
        found = f"found {len(tensors)}"
        raise FileFormatError(f"{path.name}: expected 1 to {MAX_TENSORS} named tensors, {found}; {INSTEAD}.")
    claimed = 0
    for name, tensor in tensors.items():
        where = f"{path.name}: tensor {name[:80]!r}"
        if not isinstance(tensor, PickledTensor) or not 0 < len(name.encode("utf-8", "replace")) <= MAX_NAME_BYTES:
            raise FileFormatError(f"{where} is not a plain one; {INSTEAD}.")
        needed = max(tensor.nbytes, (tensor.first + tensor.extent) * tensor.width)
        if needed > tensor.member.nbytes:
            has = tensor.member.nbytes
            raise FileFormatError(f"{where} claims {needed} bytes, its storage has {has}; the file is made to harm.")
        if min((tensor.first, *tensor.steps)) < 0:
            raise FileFormatError(f"{where} is not a plain one; {INSTEAD}.")
        claimed += tensor.nbytes
        yield name, tensor
    if claimed > MAX_AMPLIFICATION * size:
        raise FileFormatError(f"{path.name}: its tensors claim {claimed} bytes, the file has {size}; {INSTEAD}.")
