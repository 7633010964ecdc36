"""What of a file's metadata is nobody else's business: where its author's files lie, who that is, what was drawn.

ComfyUI saves checkpoints with the whole workflow in them, and trainers note paths; what we write from such files has
names of files at most.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_WORKFLOW = frozenset(("prompt", "workflow", "extra_pnginfo"))  # ComfyUI's own keys
_NAME = r"""[^\s/\\"'<>|:*?,;(){}\[\]]+"""
# An absolute path: of Windows with a drive or a server, backslashes perhaps doubled by JSON; else of two names at least
_PATH = re.compile(
    rf"(?<![\w.])[A-Za-z]:[/\\]+{_NAME}(?:[/\\]+{_NAME})*[/\\]*"
    rf"|(?:^|(?<=[\s\"'=]))\\\\(?:\\\\)?[A-Za-z0-9][\w.$-]*(?:\\+{_NAME})+\\*"
    rf"|(?:(?<!\w)file:/+|(?<![\w.:/\\<+~-])(?<!base64,)~?/)(?:{_NAME}/+)+(?:{_NAME})?"
)
_HOMES = frozenset(("home", "users", "documents and settings"))


def without_private(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata without workflows, and with the file's name alone in place of each absolute path."""
    return {key: without_paths(value) for key, value in metadata.items() if key not in _WORKFLOW}


def without_paths(value: str) -> str:
    """Return a text with the last name alone in place of each absolute path."""
    is_data = value.startswith("data:")  # a picture, whose letters may look like anything
    return value if is_data or not ("/" in value or "\\" in value) else _PATH.sub(_name_of, value)


def _name_of(match: re.Match[str]) -> str:
    """Return the last name of a path; a folder that is somebody's home has none."""
    names = [name for name in re.split(r"[/\\]+", match[0].removeprefix("file:")) if name and not _is_drive(name)]
    if names and names[0] == "~":
        names = names[1:]
    if names and names[0].lower() in _HOMES:
        names = names[2:]
    return names[-1] if names else ""


def _is_drive(name: str) -> bool:
    return len(name) == 2 and name[1] == ":"
