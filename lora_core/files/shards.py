"""One model in several files, safetensors mostly: a mapping like a single file, each key in exactly one shard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from ..errors import FileFormatError
from ..lazytorch import torch
from ..text import counted, some_names
from .modelfolder import ModelPart
from .tensorfile import TensorFile
from .tensors import Tensors


class ShardedFile(Tensors):
    """The open shards of a folder's part, checked against the index.

    Raises FileFormatError for a broken shard, a key that is missing, in two shards, or not in the index.
    """

    def __init__(self, part: ModelPart, opener: Callable[[Path], Tensors] = TensorFile) -> None:
        """Open each shard with `opener`."""
        self.path = part.index or part.folder
        self.metadata = {}
        self._files: dict[str, Tensors] = {}
        self._home: dict[str, Tensors] = {}  # key -> its shard
        with ExitStack() as opened:
            for path in part.files:
                file = opened.enter_context(opener(path))
                self._files[path.name] = file
                self.metadata |= file.metadata
                self._add(file)
            self._check_index(part)
            opened.pop_all()  # all is well: they stay open
        self._infos = {key: file[key] for key, file in self._home.items()}
        found = sum(info.nbytes for info in self._infos.values())
        if part.total_size is not None and part.total_size != found:
            self.warnings = (
                f"{self.path.name}: says that the tensors have {part.total_size} bytes; they have {found}.",
            )

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def tensor(self, name: str) -> torch.Tensor:
        return self._home[name].tensor(name)

    def scalar(self, name: str) -> float:
        return self._home[name].scalar(name)

    def check_unchanged(self) -> None:
        for file in self._files.values():
            file.check_unchanged()

    @property
    def size(self) -> int:
        return sum(file.size for file in self._files.values())

    @property
    def paths(self) -> Sequence[Path]:
        return [file.path for file in self._files.values()]

    @property
    def files(self) -> Sequence[TensorFile]:
        """The safetensors files."""
        return [file for file in self._files.values() if isinstance(file, TensorFile)]

    def _add(self, file: Tensors) -> None:
        for key in file:
            if key in self._home:
                raise FileFormatError(
                    f"{self.path.name}: {key!r} is in both {self._home[key].path.name} and {file.path.name}; "
                    "the files are of different models or downloads."
                )
            self._home[key] = file

    def _check_index(self, part: ModelPart) -> None:
        weight_map = part.weight_map or {}
        for key, name in weight_map.items():
            if key not in self._files[name]:
                raise FileFormatError(
                    f"{self.path.name}: {key!r} should be in {name}, which lacks it; "
                    "the index and the files are of different models or downloads."
                )
        extra = [key for key in self._home if key not in weight_map]
        if extra:
            raise FileFormatError(
                f"{self.path.name}: {counted(extra, 'tensor')} of the files not in the index: {some_names(extra)}; "
                "the index and the files are of different models or downloads."
            )
