"""The files of a stack, each found; what can't be found is told at once and for all rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import AmbiguousFileError, FileFormatError, NoSuchFileError, NotHashedError
from ..files.hashes import AUTOV3
from ..stack.entry import StackEntry
from ..stack.rows import Row, each_file
from ..text import message_line, shortened
from .listing import Listing

MOST_LINES = 20  # of files that are missing
_LONGEST_NAME = 120  # characters of one of them, so that all lines are a screen

Labelled = Sequence[tuple[str, StackEntry]]  # what an entry is called in an error, and the entry


def located(entries: Iterable[StackEntry], listing: Listing) -> list[StackEntry]:
    """Return the entries with their files' paths, their names as they are listed, and notes on how they were found.

    Raises one NoSuchFileError that names every entry without a file, those of pairs too.
    """
    given = list(entries)
    try:
        return [_located(entry, listing) for entry in given]
    except FileFormatError as error:  # only then is all of it searched again, to name all that is missing
        numbered = [(f"LoRA {number}", entry) for number, entry in enumerate(given, start=1)]
        raise NoSuchFileError(*(missing_files(numbered, listing) or str(error)).split("\n")) from error


def rows_in_use(rows: Iterable[Row]) -> list[tuple[str, StackEntry]]:
    """Return the entries of the rows that are switched on and name a file, called by the numbers of their rows."""
    numbered = enumerate(rows, start=1)
    return [(f"row {number}", row.entry()) for number, row in numbered if row.on and row.name not in ("", "None")]


def missing_files(entries: Labelled, listing: Listing) -> str:
    """Return which of the entries have no file, and what to do about it; an empty text if all have one, or may."""
    lines = [line for label, entry in entries for line in _missing(label, entry, listing)]
    if not lines:
        return ""
    if len(lines) > MOST_LINES:
        lines[MOST_LINES:] = [f"And {len(lines) - MOST_LINES} more."]
    looked_up = any(entry.hash or (entry.low and entry.low.hash) for _, entry in entries)
    where = "; to find one, search civitai.com or your model manager for its AutoV3 hash" if looked_up else ""
    lines.append(f"Put what is missing into {listing.where}, choose other files, or switch it off{where}.")
    return "\n".join(map(message_line, lines))


def possible_files(entries: Iterable[StackEntry], listing: Listing) -> list[str]:
    """Return the names of the files that the entries mean, or may mean where only a run can tell, each once."""
    wanted = dict.fromkeys((one[0], one.size, one.hash) for one in each_file(entries) if one.tensors is None)
    return list(dict.fromkeys(name for one in wanted for name in listing.possible(*one)))


def notes_of(entries: Iterable[StackEntry]) -> list[str]:
    """Return what users should be told of how the files of located entries were found."""
    return list(dict.fromkeys(message_line(one.note) for one in each_file(entries) if one.note))


def changed(entry: StackEntry, name: str, **attributes: Any) -> StackEntry:
    """Return the entry with another name and other attributes."""
    extras: dict[str, Any] = {**entry.extras(), **attributes}
    return StackEntry(name, entry[1], entry[2], **extras)


def _located(entry: StackEntry, listing: Listing) -> StackEntry:
    low = _located(entry.low, listing) if entry.low is not None else None
    if entry.path or entry.tensors is not None:  # of a stack before, whose entries many nodes may hand on
        return entry if low is entry.low else changed(entry, entry[0], low=low)
    found = listing.find(entry[0], entry.size, entry.hash)
    return changed(entry, found.name, path=str(listing.path(found.name)), note=found.note, low=low)


def _missing(label: str, entry: StackEntry, listing: Listing) -> list[str]:
    lines = _missing(f"{label}, low noise", entry.low, listing) if entry.low is not None else []
    try:
        if not entry.path and entry.tensors is None:
            listing.path(listing.find(entry[0], entry.size, entry.hash).name)
    except AmbiguousFileError as error:
        return [f"{label}: {shortened(str(error), 3 * _LONGEST_NAME)}", *lines]
    except NotHashedError:  # the run reads them, and may find it
        return lines
    except FileFormatError:
        hashed = f" (AutoV3 {entry.hash[:AUTOV3]})" if entry.hash else ""
        return [f"{label}: {shortened(entry[0], _LONGEST_NAME)}: no such file in {listing.where}{hashed}.", *lines]
    return lines
