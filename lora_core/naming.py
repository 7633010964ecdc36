"""Where results go: inside a folder, under a counted name, never over an existing file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from .errors import OutputError
from .files.filenames import compared, is_plain

_MAX_PART_BYTES = 200  # leaves room for the counter, the extension and a temporary's ending within 255


def new_path(roots: Sequence[Path], prefix: str) -> Path:
    """Return `PREFIX_00001_.safetensors` in the first root, with a number that no root uses; makes its folder.

    The same name in another root would hide the file from ComfyUI's loaders, so all roots count, and so do names that
    differ in upper and lower case, which are one file on other systems.
    Raises OutputError for a prefix that is not a plain relative path on every system, or that leads out of the root.
    """
    *folders, stem = checked_prefix(prefix)
    root = roots[0]
    parent = root.joinpath(*folders)
    if not _is_within(root, parent):
        raise OutputError(f"filename_prefix {prefix!r}: leads out of the folder {root.name} through a link.")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        number = 1 + max(_used_number(folder, stem) for folder in _folders(roots, folders))
    except OSError as error:
        raise OutputError(f"filename_prefix {prefix!r}: can't make the folder ({error.strerror}).") from error
    return parent / f"{stem}_{number:05}_.safetensors"


def checked_prefix(prefix: str) -> list[str]:
    """Return the parts of a prefix that is a plain relative path on every system, or raise OutputError."""
    parts = prefix.strip().replace("\\", "/").removesuffix(".safetensors").split("/")
    for part in parts:
        if not is_plain(part) or len(part.encode()) > _MAX_PART_BYTES:
            raise OutputError(
                f"filename_prefix {prefix!r}: {part!r} can't be part of a file name; "
                "expected a name like 'folder/name'."
            )
    return parts


def _is_within(root: Path, path: Path) -> bool:
    real = os.path.realpath(root)
    try:
        return os.path.commonpath((real, os.path.realpath(path))) == real
    except ValueError:  # on another drive
        return False


def _folders(roots: Iterable[Path], parts: Sequence[str]) -> list[Path]:
    """Return the folders below each root that go by these names on some system."""
    folders = list(roots)
    for part in parts:
        inner = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
        folders = [path for path in inner if compared(path.name) == compared(part)]
    return folders


def _used_number(folder: Path, stem: str) -> int:
    pattern = re.compile(re.escape(compared(stem)) + r"_([0-9]+)_\.safetensors")
    found = [pattern.fullmatch(compared(path.name)) for path in folder.iterdir()] if folder.is_dir() else []
    return max((int(match[1]) for match in found if match), default=0)
