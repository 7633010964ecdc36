"""The LoRA files that ComfyUI lists, found by name or content; their hashes are kept in its user folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..lora_core.errors import FileFormatError, LoraError
from ..lora_core.files.hashes import Hashes
from ..lora_core.files.openfile import mark_of
from ..lora_core.library.listing import Listing
from ..lora_core.library.stackfiles import located, missing_files, rows_in_use
from ..lora_core.stack.entry import StackEntry
from ..lora_core.stack.rows import each_file, parse_rows
from . import host

HASHES = Hashes(host.own_file("hashes.json"))


def loras() -> Listing:
    """Return the listed LoRA files as they are now."""
    return Listing(host.lora_names(), host.listed_lora, "the loras folders", HASHES)


def found(entries: Iterable[StackEntry]) -> list[StackEntry]:
    """Return the entries with their files; raises one FileFormatError that names all that have none."""
    return located(entries, loras())


def rows_problem(rows: Any) -> bool | str:
    """Return True, or what is wrong with the rows of Stack LoRAs: with their form, or all files that are missing."""
    try:
        return missing_files(rows_in_use(parse_rows(rows)), loras()) or True
    except LoraError as error:
        return str(error)


def rows_fingerprint(rows: Any) -> list[Any]:
    """Return names and marks of the files of the rows, so that a node runs again after one was overwritten."""
    try:
        entries = found(entry for _, entry in rows_in_use(parse_rows(rows)))
    except FileFormatError:  # the host asks before it validates
        return []
    return [(one[0], *mark_of(Path(one.path).stat())) for one in each_file(entries)]
