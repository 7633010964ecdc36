"""GGUF files as diffusion models use them: native key names, blocks decoded by the `gguf` package."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import FileFormatError, UnknownArchError
from ..lazytorch import torch
from .dtypes import DTYPES, torch_dtype
from .ggufheader import TYPES, read_gguf_header
from .openfile import OpenFile
from .tensorheader import TensorInfo
from .tensors import Tensors


class GgufFile(Tensors):
    """An open GGUF file. Its header needs no package; quantised tensors need `gguf` (the package gguf).

    Raises FileFormatError for a broken file; reading a quantised tensor raises UnknownArchError without the package.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = OpenFile(self.path, "a model file")
        try:
            values, self._tensors = read_gguf_header(self._file)
        except BaseException:
            self._file.close()
            raise
        # how the model is built; all else describes this file's tensors, and is not carried over
        self.metadata = {key: value for key in ("config",) if isinstance(value := values.get(key), str)}
        # what the file says of itself, without its vocabulary and other lists
        self.told = {
            key: value
            for key, value in values.items()
            if key.startswith("adapter.") or isinstance(value, (str, int, float))
        }
        self._infos = {
            name: TensorInfo(name, self._dtype(name), info.shape, info.start, info.nbytes)
            for name, info in self._tensors.items()
        }

    def close(self) -> None:
        self._file.close()

    def tensor(self, name: str) -> torch.Tensor:
        info = self._tensors[name]
        raw = self._file.read(info.start, info.nbytes)
        if self.coded_as(name) is None:
            dtype = torch_dtype(TYPES[info.type][0])
            return (
                torch.frombuffer(raw, dtype=dtype).reshape(info.shape) if raw else torch.empty(info.shape, dtype=dtype)
            )
        return _decoded(self.path, raw, info.type).reshape(info.shape)

    def check_unchanged(self) -> None:
        self._file.check_unchanged()

    @property
    def size(self) -> int:
        return self._file.size

    def coded_as(self, name: str) -> str | None:
        type_name = TYPES[self._tensors[name].type][0]
        return None if type_name in DTYPES else type_name

    def _dtype(self, name: str) -> str:
        return "F32" if self.coded_as(name) else TYPES[self._tensors[name].type][0]


def _decoded(path: Path, raw: bytearray, kind: int) -> torch.Tensor:
    try:
        import gguf  # noqa: PLC0415  (optional: only quantised GGUF files need it)
        import numpy as np  # noqa: PLC0415  (slow to import)
    except ImportError as error:
        raise UnknownArchError(
            f"{path.name}: its weights are quantised as {TYPES[kind][0]}, which needs the package gguf: "
            "add it to this Python, or use the safetensors version of the model."
        ) from error
    try:
        blocks = np.frombuffer(raw, np.uint8).reshape(-1, TYPES[kind][2])
        values: Any = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType(kind))
    except (NotImplementedError, ValueError) as error:
        raise FileFormatError(
            f"{path.name}: {TYPES[kind][0]} can't be read by the installed package gguf ({error}); "
            "use another version of the model."
        ) from error
    return torch.from_numpy(values.astype(np.float32, copy=False))
