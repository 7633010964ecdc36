"""ComfyUI's extra_model_paths.yaml: more folders for models, in the part of YAML that such files are written in."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import FileFormatError
from ..files.openfile import read_whole

NAME = "extra_model_paths.yaml"
_MAX_BYTES = 1_000_000
_ENTRY = re.compile(r"""(?s)(?P<indent>\ *)(?P<key>"[^"]*"\s*|'[^']*'\s*|[^\s#'"][^:#]*):(?:\s+(?P<value>.*))?""")
_BLOCK = re.compile(r"[|>][+-]?")


@dataclass(frozen=True, slots=True)
class ExtraFolder:
    """A folder for models of one kind; the first of its kind if `is_default`."""

    kind: str
    path: Path
    is_default: bool


def extra_folders(file: Path) -> list[ExtraFolder]:
    """Return the folders that a file names, in order; none without the file. Raises FileFormatError for another."""
    try:
        if not file.exists():
            return []
        text = read_whole(file, _MAX_BYTES, "folders of models").decode("utf-8-sig")
    except FileFormatError:
        raise
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{file.name}: can't be read: {error}.") from error
    return [folder for section in _sections(text, file.name) for folder in _folders(section, file.parent)]


def _folders(section: dict[str, str], beside: Path) -> Iterator[ExtraFolder]:
    base = os.path.expandvars(os.path.expanduser(section.pop("base_path", "")))  # noqa: PTH111 - as ComfyUI does
    is_default = section.pop("is_default", "").lower() in ("true", "yes", "on")
    for kind, value in section.items():
        for line in filter(None, map(str.strip, value.split("\n"))):
            path = os.path.normpath(os.path.abspath(beside / base / line))  # noqa: PTH100 - links stay as they are
            yield ExtraFolder(kind, Path(path), is_default)


def _sections(text: str, name: str) -> list[dict[str, str]]:
    """Return what stands below each key of the first column: keys with a value, or with a block of lines."""
    found: list[dict[str, str]] = []
    block: tuple[int, str] | None = None  # the indent of the key above, and that key
    for number, line in enumerate(text.splitlines(), start=1):
        indent = len(line) - len(line.lstrip(" "))
        if block is not None and line.strip() and indent > block[0]:
            found[-1][block[1]] += line.strip() + "\n"
            continue
        if not line.strip() or line.lstrip().startswith("#") or line.strip() in ("---", "..."):
            continue
        block, match = None, _ENTRY.fullmatch(line.rstrip())
        if match is None or (indent and not found):
            raise FileFormatError(f"{name}: line {number} is not `key: value`, or more than this reader knows of YAML.")
        key, value = _plain(match["key"]), _plain(match["value"] or "")
        if not indent:
            found.append({})
        elif _BLOCK.fullmatch(value):
            block, found[-1][key] = (indent, key), ""
        else:
            found[-1][key] = value
    return found


def _plain(text: str) -> str:
    """Return a scalar without its quotes, or without a comment behind it."""
    text = text.strip()
    if text[:1] in ("'", '"') and (end := text.find(text[0], 1)) > 0:
        return text[1:end]
    return re.split(r"(?:^|\s)#", text, maxsplit=1)[0].strip()
