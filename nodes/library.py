"""The LoRA files that ComfyUI lists, found by name or content; their hashes are kept in its user folder."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..lora_core.errors import LoraError
from ..lora_core.files.hashes import Hashes
from ..lora_core.library.listing import Listing
from ..lora_core.library.stackfiles import located, missing_files, possible_files, rows_in_use
from ..lora_core.parallel.progress import OnStep
from ..lora_core.stack.entry import StackEntry
from ..lora_core.stack.rows import parse_rows, stack_of
from . import host

HASHES = Hashes(host.own_file("hashes.json"))


def loras(on_step: OnStep | None = None) -> Listing:
    """Return the listed LoRA files as they are now; of those whose contents are not known, none is read.

    Only a node that runs reads them, and `on_step` hears of it.
    """
    return Listing(host.lora_names(), host.listed_lora, "the loras folders", HASHES, on_step)


def found(entries: Iterable[StackEntry]) -> list[StackEntry]:
    """Return the entries with their files; raises one FileFormatError that names all that have none."""
    return located(entries, loras(_running_node()))


def rows_problem(rows: Any) -> bool | str:
    """Return True, or what is wrong with the rows of Stack LoRAs: with their form, or all files that are missing."""
    try:
        parsed = parse_rows(rows)
        stack_of(parsed)  # or it raises, for strengths of blocks that can't be read
        return missing_files(rows_in_use(parsed), loras()) or True
    except LoraError as error:
        return str(error)


def rows_fingerprint(rows: Any) -> list[Any]:
    """Return names and marks of the files of the rows, so that a node runs again after one was overwritten."""
    try:
        listing, entries = loras(), [entry for _, entry in rows_in_use(parse_rows(rows))]
    except LoraError:  # the host asks before it validates
        return []
    return [mark for name in possible_files(entries, listing) for mark in host.file_marks(listing.path, name)]


def _running_node() -> OnStep:
    """Return what moves the bar of the node that runs, from the first file on that it has to read."""
    steps: list[OnStep] = []

    def on_step(done: int, total: int) -> None:
        if not steps:
            steps.append(host.progress())
        steps[0](done, total)

    return on_step
