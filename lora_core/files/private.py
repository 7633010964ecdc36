"""What of a file's metadata is nobody else's business: where its author's files lie, who that is, what was drawn.

ComfyUI saves checkpoints with the whole workflow in them, and trainers note paths, commands and addresses with
passwords; what we write from such files has names of files at most. Every step takes time in proportion to the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from .pathpatterns import HINT, IN_QUERY, IN_TEXT, ONE_PATH, SECRET, USER, names_of

_WORKFLOW = frozenset(("prompt", "workflow", "extra_pnginfo"))  # ComfyUI's own keys
_HOMES = frozenset(("home", "homes", "users", "documents and settings", "media"))  # hold a folder for each user
_DEEPEST = 8  # texts in JSON in texts
_LONGEST_PATH = 4096
_JSON_TEXT = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)  # without an end too: no sign is looked at twice
_PATHS_OF_CONFIG = re.compile(r"(?:[\w-]+_)?config\.json|model_index\.json|[\w.-]+\.index(?:\.[\w-]+)?\.json")


def without_private(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata without workflows, and with the file's name alone in place of each absolute path."""
    return {without_paths(key): without_paths(value) for key, value in metadata.items() if key not in _WORKFLOW}


def without_paths(value: str) -> str:
    """Return a text with the last name alone in place of each absolute path, and addresses without passwords."""
    return _cleaned(value, _DEEPEST)


def tells_paths(name: str) -> bool:
    """Tell whether a file of a model folder is one of those that tell where the model was read from."""
    return bool(_PATHS_OF_CONFIG.fullmatch(name))


def config_without_paths(text: str) -> str:
    """Return the JSON of a configuration, with the last name alone in place of texts that are an absolute path.

    Nothing else of it changes: it has tokens and templates that may look like anything.
    """
    return _in_json(text, lambda one: _one_path(one) if ONE_PATH.match(one) else one)


def _cleaned(value: str, depth: int) -> str:
    if not _may_hold_paths(value):
        return value
    if depth and value.lstrip()[:1] in ("{", "[", '"') and _is_json(value):
        return _in_json(value, lambda one: _cleaned(one, depth - 1))
    if not HINT.search(value):
        return value
    if ONE_PATH.match(value):
        return _one_path(value)
    return IN_TEXT.sub(_replaced, value)


def _may_hold_paths(value: str) -> bool:
    return "/" in value or "\\" in value or "%" in value


def _is_json(value: str) -> bool:
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        return False
    return True


def _in_json(value: str, change: Callable[[str], str]) -> str:
    """Change the texts in JSON, and nothing of how it is written."""

    def changed(match: re.Match[str]) -> str:
        if not _may_hold_paths(match[0]):
            return match[0]
        try:
            before = json.loads(match[0], strict=False)
        except ValueError:  # what has no end, or is no text of JSON
            return match[0]
        after = change(before)
        return match[0] if after == before else json.dumps(after, ensure_ascii=match[0].isascii())

    return _JSON_TEXT.sub(changed, value)


def _replaced(match: re.Match[str]) -> str:
    """Return what stays of a match, by the kind that it is of."""
    if match["kept"]:
        return match[0]
    if match["web"]:
        address = SECRET.sub(r"\1", USER.sub(r"\1", match[0]))
        return IN_QUERY.sub(lambda one: _last(names_of(one[0])), address)
    if match["quoted"]:
        return _one_path(match[0]) if ONE_PATH.match(match[0]) else IN_TEXT.sub(_replaced, match[0])
    return _last(names_of(match[0]))


def _one_path(value: str) -> str:
    names = names_of(value)
    return _last(names) if names else value


def _last(names: list[str]) -> str:
    """Return the last name of a path; a folder that is somebody's home has none."""
    is_home = len(names) > 1 and names[-2].lower() in _HOMES
    return "" if is_home or not names else names[-1]
