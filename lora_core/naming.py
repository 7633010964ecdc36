"""Where results go: inside a folder, under a counted name, never over an existing file."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from .errors import OutputError

_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")  # what Windows keeps for devices
_FORBIDDEN = re.compile(r'[\x00-\x1f<>:"|?*]')
_MAX_PART_BYTES = 200  # leaves room for the counter, the extension and a temporary's ending within 255


def new_path(roots: Sequence[Path], prefix: str) -> Path:
    """Return `PREFIX_00001_.safetensors` in the first root, with a number that no root uses; makes its folder.

    The same name in another root would hide the file from ComfyUI's loaders, so all roots count.
    Raises OutputError for a prefix that is not a plain relative path on every system, or that leads out of the root.
    """
    *folders, stem = checked_prefix(prefix)
    root = roots[0]
    parent = root.joinpath(*folders)
    if not _is_within(root, parent):
        raise OutputError(f"filename_prefix {prefix!r}: leads out of the folder {root.name} through a link.")
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"filename_prefix {prefix!r}: can't make the folder ({error.strerror}).") from error
    number = 1 + max(_used_number(other.joinpath(*folders), stem) for other in roots)
    return parent / f"{stem}_{number:05}_.safetensors"


def checked_prefix(prefix: str) -> list[str]:
    """Return the parts of a prefix that is a plain relative path on every system, or raise OutputError."""
    parts = prefix.strip().replace("\\", "/").removesuffix(".safetensors").split("/")
    for part in parts:
        wrong = part in ("", ".", "..") or part != part.strip() or part.endswith(".")
        too_long = len(part.encode("utf-8", "replace")) > _MAX_PART_BYTES
        if wrong or too_long or _FORBIDDEN.search(part) or _RESERVED.fullmatch(part):
            raise OutputError(
                f"filename_prefix {prefix!r}: {part!r} can't be part of a file name; "
                "expected a name like 'folder/name'."
            )
    return parts


def _is_within(root: Path, path: Path) -> bool:
    real = os.path.realpath(root)
    return os.path.commonpath((real, os.path.realpath(path))) == real


def _used_number(folder: Path, stem: str) -> int:
    pattern = re.compile(re.escape(stem) + r"_(\d+)_\.safetensors", re.IGNORECASE)
    found = [pattern.fullmatch(path.name) for path in folder.iterdir()] if folder.is_dir() else []
    return max((int(match[1]) for match in found if match), default=0)
