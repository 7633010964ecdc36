"""Model folders as diffusers and Hugging Face lay them out: which files hold the weights, found by name alone.

Either the folder itself holds weights, in one file or in shards with an index, or its component folders do.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FileFormatError
from ..text import LONGEST_JSON, parse_json, some_names
from .openfile import read_whole
from .tensorheader import MAX_TENSORS, no_duplicates

COMPONENT = re.compile(r"(unet|transformer|prior|decoder|text_encoder|text_model)(_\d+)?")
STEMS = ("diffusion_pytorch_model", "model")  # how weight files begin; what follows may name a variant
WEIGHT_SUFFIXES = frozenset(
    {".safetensors", ".bin", ".ckpt", ".pt", ".pth", ".gguf", ".msgpack", ".h5", ".onnx", ".onnx_data"}
)
MAX_SHARDS = 500


@dataclass(frozen=True, slots=True)
class ModelPart:
    """One model of a folder: its weights in one file, or in shards that an index lists."""

    name: str  # the component folder's; empty if the weights lie in the folder itself
    files: tuple[Path, ...]
    index: Path | None = None
    weight_map: dict[str, str] | None = None  # key -> file name, as the index says
    total_size: int | None = None  # the index's own sum of bytes

    @property
    def folder(self) -> Path:
        return self.files[0].parent


def model_parts(folder: Path) -> list[ModelPart]:
    """Return the parts of a model folder, or raise FileFormatError saying what is missing or wrong."""
    if not (folder / "model_index.json").is_file():
        own = _part(folder, "")
        if own:
            return [own]
    parts = [part for name in _component_names(folder) if (part := _part(folder / name, name))]
    if parts:
        return parts
    names = sorted(path.name for path in folder.iterdir() if path.suffix in WEIGHT_SUFFIXES)
    has = f"it holds {some_names(names)}; give the model file itself" if names else "it holds no weights"
    raise FileFormatError(
        f"{folder.name}: is a folder, but not a model folder: expected model.safetensors, "
        f"diffusion_pytorch_model.safetensors, an index with shards, or component folders such as unet; {has}."
    )


def _component_names(folder: Path) -> list[str]:
    try:
        names = sorted(path.name for path in folder.iterdir() if path.is_dir() and COMPONENT.fullmatch(path.name))
    except OSError as error:
        raise FileFormatError(f"{folder.name}: can't be read: {error}.") from error
    linked = [name for name in names if leads_out(folder / name, folder)]
    if linked:
        raise FileFormatError(
            f"{folder.name}: {some_names(linked)} is a link out of the folder, which is not followed; put the folder "
            "itself there, or give it as the model."
        )
    return names


def leads_out(path: Path, folder: Path) -> bool:
    """Tell whether a file or folder in `folder` is, through links, one that is not in it."""
    real, root = os.path.realpath(path), os.path.realpath(folder)
    return real != root and not real.startswith(root.rstrip(os.sep) + os.sep)


def _part(folder: Path, name: str) -> ModelPart | None:
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    for stem in STEMS:
        # the plain file comes before variants such as `.fp16`
        indices = [n for n in names if re.fullmatch(rf"{stem}\.safetensors\.index(\.[\w-]+)?\.json", n)]
        singles = [n for n in names if re.fullmatch(rf"{stem}(\.[\w-]+)?\.safetensors", n) and not _is_shard(n)]
        plain = [n for n in (f"{stem}.safetensors.index.json", f"{stem}.safetensors") if n in names]
        for chosen in (*plain, *indices, *singles):
            path = folder / chosen
            return indexed(path, name) if path.suffix == ".json" else ModelPart(name, (path,))
        shards = [n for n in names if n.startswith(stem) and _is_shard(n)]
        if shards:
            raise FileFormatError(
                f"{_shown(folder, name)}: holds {some_names(shards)} without the index; "
                f"download {stem}.safetensors.index.json too."
            )
    return None


def _is_shard(name: str) -> bool:
    return bool(re.search(r"-\d{5}-of-\d{5}\.safetensors$", name))


def indexed(index: Path, name: str, ending: str = ".safetensors") -> ModelPart:
    """Return the part that an index lists, in files of this ending; raises FileFormatError for a broken index."""
    shown = _shown(index, name)
    content = read_index(index, shown)
    weight_map = content.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or len(weight_map) > MAX_TENSORS:
        raise FileFormatError(f"{shown}: broken index: expected weight_map with 1 to {MAX_TENSORS} keys.")
    for file in weight_map.values():
        if not _is_plain_name(file, ending):
            raise FileFormatError(
                f"{shown}: broken index: expected the name of a {ending} file in the same folder, "
                f"found {str(file)[:80]!r}; nothing outside the folder is read."
            )
    files = tuple(index.parent / file for file in dict.fromkeys(weight_map.values()))
    if len(files) > MAX_SHARDS:
        raise FileFormatError(f"{shown}: lists {len(files)} files; the limit is {MAX_SHARDS}.")
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise FileFormatError(
            f"{shown}: {some_names(missing)} missing, of {len(files)} files; download the whole model."
        )
    metadata = content.get("metadata")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    return ModelPart(name, files, index, weight_map, total if type(total) is int else None)


def _is_plain_name(name: Any, ending: str) -> bool:
    return (
        isinstance(name, str)
        and name.endswith(ending)
        and len(name.encode("utf-8", "replace")) <= 255
        and not name.startswith(".")
        and not set(name) & set("/\\:\0")
    )


def read_index(path: Path, shown: str) -> dict[str, Any]:
    """Return the JSON object in an index file, or raise FileFormatError."""
    try:
        content = parse_json(read_whole(path, LONGEST_JSON, "the index of a model"), no_duplicates)
    except FileFormatError:
        raise
    except ValueError as error:  # not UTF-8, not JSON, or larger than is reasonable
        raise FileFormatError(f"{shown}: broken index: {error}.") from error
    if not isinstance(content, dict):
        raise FileFormatError(f"{shown}: broken index: expected a JSON object.")
    return content


def _shown(path: Path, name: str) -> str:
    return f"{name}/{path.name}" if name and path.name != name else path.name
