"""The LoRA file in a folder that PEFT or diffusers saved."""

from __future__ import annotations

from pathlib import Path

from ..errors import FileFormatError
from ..report import some_names

# What a folder's LoRA is called: PEFT's, diffusers'
_IN_FOLDER = ("adapter_model.safetensors", "pytorch_lora_weights.safetensors")


def lora_file_of(path: Path) -> Path:
    """Return the LoRA file of a folder, or the path itself; raises FileFormatError if the folder has none."""
    if not path.is_dir():
        return path
    found = [path / name for name in _IN_FOLDER if (path / name).is_file()] or sorted(path.glob("*.safetensors"))
    if len(found) != 1 and (not found or found[0].name not in _IN_FOLDER):
        has = some_names([file.name for file in found]) or "none"
        raise FileFormatError(f"{path.name}: is a folder; expected {' or '.join(_IN_FOLDER)} in it, found {has}.")
    return found[0]
