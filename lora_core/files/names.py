"""What a file may be called: on this system, and on every system that a name may travel to."""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import OutputError
from ..text import visible

LONGEST = 255  # bytes of a name on most file systems
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?")  # devices of Windows
_FORBIDDEN = re.compile(r'[/\\<>:"|?*]')

_MAX_PART_BYTES = 200  # leaves room for the counter, the extension and a temporary's ending within 255


def is_plain(name: str) -> bool:
    """Tell whether a file may have this name on every system, and whoever reads it sees what it is."""
    wrong = name in ("", ".", "..") or name != name.strip() or name.endswith(".") or visible(name) != name
    return not (wrong or _FORBIDDEN.search(name) or _RESERVED.fullmatch(name))


def is_possible(name: str) -> bool:
    """Tell whether this system can have a file of this name; on Windows some names are devices, streams or drives."""
    try:
        encoded = os.fsencode(name)
    except UnicodeEncodeError:  # half a character
        return False
    possible = 0 < len(encoded) <= LONGEST and b"\0" not in encoded
    return possible and (sys.platform != "win32" or is_plain(name))


def compared(name: str) -> str:
    """Return the form in which two names are one file on some system: upper and lower case, é as one sign or two."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


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
                f"filename_prefix {prefix!r:.200}: {part!r:.200} can't be part of a file name; "
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
