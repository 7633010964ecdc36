"""Folders of one adapter, as PEFT, diffusers and MLX save them: which file holds it, or which shards an index lists."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import FileFormatError
from ..text import some_names
from .modelfolder import indexed
from .opening import open_tensors
from .shards import ShardedFile
from .tensors import Tensors

_STEMS = ("adapter_model", "pytorch_lora_weights", "adapters")  # PEFT's, diffusers', MLX's
_ENDINGS = (".safetensors", ".bin", ".pt")
EXPECTED = "adapter_model.safetensors or pytorch_lora_weights.safetensors"
_INDEX = ".index.json"
_SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})(?P<ending>\.(?:safetensors|bin))")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".gguf")
_BESIDE = ("optimizer.", "scheduler.", "training_args.", "rng_state", "random_states")  # what trainers leave there


def adapter_file(path: Path) -> Path:
    """Return the file or the index of an adapter's folder, or the path itself if it is no folder.

    Of one shard that is named alone, it is the index beside it. Raises FileFormatError if there is none, or several.
    """
    if not path.is_dir():
        shard = _SHARD.fullmatch(path.name)
        return _index_of(path, shard) if shard and int(shard["count"]) > 1 else path
    for stem in _STEMS:
        for ending in _ENDINGS:
            for name in (f"{stem}{ending}", f"{stem}{ending}{_INDEX}"):
                if (path / name).is_file():
                    return path / name
    return _only_one(path)


def open_adapter(path: Path) -> Tensors:
    """Open a file or an index that `adapter_file` returned."""
    if not path.name.endswith(_INDEX):
        return open_tensors(path)
    ending = Path(path.name.removesuffix(_INDEX)).suffix
    return ShardedFile(indexed(path, "", ending if ending in _ENDINGS else ".safetensors"), open_tensors)


def is_adapters_own(path: Path) -> bool:
    """Tell whether a configuration beside a file is about this one, by its name: as PEFT and MLX call it."""
    stem = path.name.partition(".")[0]
    shard = _SHARD.fullmatch(path.name)
    return (shard["stem"] if shard else stem) in ("adapter_model", "adapters")


def _index_of(shard: Path, name: re.Match[str]) -> Path:
    index = shard.with_name(f"{name['stem']}{name['ending']}{_INDEX}")
    if not index.is_file():
        raise FileFormatError(
            f"{shard.name}: is one of {int(name['count'])} parts of an adapter, and {index.name} is not beside it; "
            "download the whole folder, and give the folder."
        )
    return index


def _only_one(folder: Path) -> Path:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(_BESIDE))
    found = [path for path in files if path.suffix == ".safetensors"]
    found = found or [path for path in files if path.suffix in _PICKLED]
    if len(found) == 1:
        return adapter_file(found[0])
    if not found:
        inner = [one.name for one in sorted(folder.iterdir()) if one.is_dir() and _holds_adapter(one)]
        if inner:
            raise FileFormatError(
                f"{folder.name}: is a folder with {some_names(inner)} in it, each with an adapter; give one of these."
            )
    has = some_names([file.name for file in found]) or "none"
    raise FileFormatError(f"{folder.name}: is a folder; expected {EXPECTED} in it, found {has}.")


def _holds_adapter(folder: Path) -> bool:
    names = {f"{stem}{ending}{end}" for stem in _STEMS for ending in _ENDINGS for end in ("", _INDEX)}
    return any((folder / name).is_file() for name in names)
