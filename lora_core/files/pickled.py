"""PyTorch files (.ckpt, .pt, .pth, .bin), read with `weights_only`: tensors, and nothing that could run.

A file is looked at before it is loaded: members of the archive must be stored as they are, no bigger than the file,
and no tensor may claim more elements than its storage holds. Read from a map of the file, so memory stays small.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import FileFormatError
from ..lazytorch import torch
from ..report import counted, some_names
from .openfile import OpenFile
from .tensorfile import dtype_name
from .tensorheader import DTYPES, MAX_DIMENSIONS, MAX_NAME_BYTES, MAX_TENSORS, TensorInfo
from .tensors import Tensors

MAX_STRUCTURE_BYTES = 32 * 2**20  # of the part that is not tensor data
MAX_AMPLIFICATION = 4  # tensors may share memory, but all together not claim more than so many times the file
MAX_NESTING = 4
INSTEAD = "convert it to safetensors"


class PickledFile(Tensors):
    """An open PyTorch file: the tensors of its state dict.

    Raises FileFormatError for whatever is not a plain dict of plain tensors.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.metadata = {}
        self._file = OpenFile(self.path, "a model file")
        try:
            _check_archive(self.path, self.size)
            found, ignored = _state_dict(_loaded(self.path))
            self._file.check_unchanged()  # what was loaded is what was checked
            self._tensors = dict(_checked(self.path, found, self.size))
        except BaseException:
            self._file.close()
            raise
        self._infos = {
            name: TensorInfo(name, dtype_name(tensor.dtype), tuple(tensor.shape), 0, tensor.nbytes)
            for name, tensor in self._tensors.items()
        }
        if ignored:
            what = counted(ignored, "value")
            self.warnings = (f"{self.path.name}: {what} ignored, not tensors of the model: {some_names(ignored)}.",)

    def close(self) -> None:
        self._tensors = {}
        self._file.close()

    def tensor(self, name: str) -> torch.Tensor:
        return self._tensors[name].clone(memory_format=torch.contiguous_format)

    def check_unchanged(self) -> None:
        self._file.check_unchanged()

    @property
    def size(self) -> int:
        return self._file.size


def _check_archive(path: Path, size: int) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise FileFormatError(f"{path.name}: broken PyTorch file: {error}; download or copy it again.") from error
    structure = [member for member in members if member.filename.endswith("/data.pkl")]
    if len(structure) != 1:
        raise FileFormatError(f"{path.name}: is a zip archive, but not a PyTorch file of tensors; {INSTEAD}.")
    if structure[0].file_size > MAX_STRUCTURE_BYTES or len(members) > MAX_TENSORS + 10:
        raise FileFormatError(f"{path.name}: has more structure than a model needs; {INSTEAD}.")
    packed = [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise FileFormatError(
            f"{path.name}: {counted(packed, 'member')} of the archive compressed, e.g. {packed[0][:80]!r}, which "
            f"PyTorch never does and could unpack to any size; {INSTEAD}."
        )
    claimed = sum(member.file_size for member in members)
    if claimed > size:
        raise FileFormatError(f"{path.name}: its members claim {claimed} bytes, the file has {size}; {INSTEAD}.")


def _loaded(path: Path) -> Any:
    # every error of a file that torch can't or won't read; UnpicklingError comes from weights_only
    refusals = (torch.serialization.pickle.UnpicklingError, RuntimeError, ValueError, LookupError, TypeError)  # pyright: ignore
    try:
        return torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
    except (*refusals, AttributeError, AssertionError, EOFError, OSError, MemoryError, RecursionError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise FileFormatError(
            f"{path.name}: holds more than tensors, or is broken, and is not loaded ({reason}); {INSTEAD}."
        ) from error


def _state_dict(content: Any) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Return (tensors, names of what was ignored), from inside `state_dict` or the only key if there is one."""
    ignored: list[str] = []
    for _ in range(MAX_NESTING):  # a dict may hold itself
        if not isinstance(content, Mapping):
            break
        inner = "state_dict" if isinstance(content.get("state_dict"), Mapping) else next(iter(content), None)
        if inner is None or not isinstance(content[inner], Mapping) or (inner != "state_dict" and len(content) > 1):
            break
        ignored += [str(key)[:80] for key in content if key != inner]
        content = content[inner]
    tensors: dict[str, torch.Tensor] = {}
    for key, value in content.items() if isinstance(content, Mapping) else ():
        if isinstance(key, str) and isinstance(value, torch.Tensor):
            tensors[key] = value.detach()
        else:
            ignored.append(str(key)[:80])
    return tensors, ignored


def _checked(path: Path, tensors: Mapping[str, torch.Tensor], size: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors, each proven to lie in its storage."""
    if not tensors or len(tensors) > MAX_TENSORS:
        found = f"found {len(tensors)}"
        raise FileFormatError(f"{path.name}: expected 1 to {MAX_TENSORS} named tensors, {found}; {INSTEAD}.")
    claimed = 0
    for name, tensor in tensors.items():
        where = f"{path.name}: tensor {name[:80]!r}"
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        if not plain or tensor.dim() > MAX_DIMENSIONS or not 0 < len(name.encode("utf-8", "replace")) <= MAX_NAME_BYTES:
            raise FileFormatError(f"{where} is not a plain one; {INSTEAD}.")
        if not any(getattr(torch, attribute, None) is tensor.dtype for _, attribute in DTYPES.values()):
            raise FileFormatError(f"{where} holds {tensor.dtype}, which this version does not know.")
        needed, there = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
        if needed > there:
            raise FileFormatError(f"{where} claims {needed} bytes, its storage has {there}; the file is made to harm.")
        claimed += needed
        yield name, tensor
    if claimed > MAX_AMPLIFICATION * size:
        raise FileFormatError(f"{path.name}: its tensors claim {claimed} bytes, the file has {size}; {INSTEAD}.")
