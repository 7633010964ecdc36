"""Any file of tensors, opened by what it holds and not by its name: safetensors, PyTorch, GGUF."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from ..errors import FileFormatError
from .decoded import Decoded
from .gguffile import GgufFile
from .modelfolder import ModelPart, model_parts
from .pytorch.pytorchfile import PickledFile
from .shards import ShardedFile
from .tensorfile import TensorFile
from .tensors import Tensors


def open_tensors(path: str | os.PathLike[str]) -> Tensors:
    """Open one file. Raises FileFormatError if it is missing, broken, or of no format that is read here."""
    opener = {b"PK\x03\x04": PickledFile, b"GGUF": GgufFile}.get(_head(Path(path)), TensorFile)
    return opener(path)


def open_model(path: Path, opened: ExitStack) -> list[tuple[str, Tensors, Path | None]]:
    """Open a model file, or every part of a model folder, as (component folder's name, tensors, index file)."""
    if not path.is_dir():
        return [("", opened.enter_context(open_tensors(path)), None)]
    return [(part.name, opened.enter_context(_open_part(part)), part.index) for part in model_parts(path)]


def safetensors_files(tensors: Tensors) -> Sequence[TensorFile]:
    """Return the safetensors files behind it, whose bytes may be copied; none for another format."""
    raw = tensors.raw if isinstance(tensors, Decoded) else tensors
    if isinstance(raw, ShardedFile):
        return raw.files
    return (raw,) if isinstance(raw, TensorFile) else ()


def _open_part(part: ModelPart) -> Tensors:
    return ShardedFile(part) if part.index else TensorFile(part.files[0])


def _head(path: Path) -> bytes:
    try:
        if not path.is_file():  # a folder, a pipe, nothing: TensorFile says which
            return b""
        with path.open("rb") as file:
            return file.read(4)
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{path.name}: can't be opened: {error}.") from error
