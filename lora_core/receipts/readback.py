"""A receipt as it is read: text that anybody may have changed, checked field by field."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Any

from ..errors import ReceiptError
from ..text import parse_json
from .receipt import FORMAT

Entry = Mapping[str, Any]  # of a file: name, bytes, sha256, of a LoRA strengths too; of a folder: name, files

_LONGEST = 1 << 22
_HASH = re.compile(r"[0-9a-f]{64}")
_ROLES = ("base", "tuned", "loras")


@dataclass(frozen=True, slots=True)
class ReadReceipt:
    operation: str
    options: Mapping[str, Any]
    inputs: Mapping[str, Sequence[Entry]]  # every role is there
    versions: Mapping[str, str]


def read_receipt(text: str | None, where: str) -> ReadReceipt:
    """Return the receipt in `text`; raises ReceiptError if there is none, it is broken, or of a later version."""
    if text is None:
        raise ReceiptError(
            f"{where}: has no receipt: LoRA Core did not make it, or another program wrote it again since; there is "
            "nothing to verify it by."
        )
    found = _object(text)
    if found is not None and found.get("v") != FORMAT:
        raise ReceiptError(
            f"{where}: its receipt has version {found.get('v')!r:.20}, which is unknown to this LoRA Core; update it "
            f"(it knows version {FORMAT})."
        )
    if found is None or not _is_whole(found):
        raise ReceiptError(f"{where}: its receipt is broken: something changed it after the file was written.")
    inputs = {role: _entries(found, role) for role in _ROLES}
    return ReadReceipt(found["operation"], found["options"], inputs, found["versions"])


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = parse_json(text) if len(text) <= _LONGEST else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _is_whole(found: Mapping[str, Any]) -> bool:
    named = isinstance(found.get("operation"), str)
    several = (_entries(found, role) for role in _ROLES)
    entries = all(isinstance(some, list) and all(map(_is_entry, some)) for some in several)
    return named and entries and isinstance(found.get("options"), dict) and isinstance(found.get("versions"), dict)


def _entries(found: Mapping[str, Any], role: str) -> Any:
    """Return what should be a list of entries."""
    if role == "loras":
        return found.get(role, [])
    return [found[role]] if role in found else []


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        return False
    files = entry.get("files")
    if files is not None:
        return isinstance(files, list) and bool(files) and all(map(_is_file_below, files))
    strengths = (entry.get(key, 1.0) for key in ("strength_model", "strength_clip"))
    are_numbers = all(type(one) in (int, float) and math.isfinite(one) for one in strengths)
    are_texts = all(isinstance(entry.get(key, ""), str) for key in ("blocks", "config", "pair"))
    shards = entry.get("shards", [])
    are_files = isinstance(shards, list) and all(map(_is_file_below, shards))
    return are_files and are_numbers and are_texts and type(entry.get("bytes")) is int and _is_hash(entry.get("sha256"))


def _is_file_below(entry: Any) -> bool:
    """Tell whether this is a file of a folder: a name that leads elsewhere would have that file read."""
    if not isinstance(entry, dict) or {"files", "shards"} & entry.keys() or not _is_entry(entry):
        return False
    name = PureWindowsPath(entry["name"])  # which knows the marks of every system
    return not name.anchor and ".." not in name.parts


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and bool(_HASH.fullmatch(value))
