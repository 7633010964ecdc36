"""Stacks as users and node packs hold them: the rows of Stack LoRAs, and LORA_STACK entries.

A LORA_STACK is a plain list whose entries unpack into exactly three fields (name, strength_model, strength_clip),
as every node pack expects; ours are a tuple subclass that carries more as attributes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import OptionError
from ..options import STRENGTH_LIMIT
from ..text import parse_json, short_repr
from .blockterms import parse_blocks
from .entry import StackEntry

ROWS_VERSION = 1
MOST_ROWS = 2_000


@dataclass(frozen=True, slots=True)
class Row:
    """One row of Stack LoRAs; `strength_clip` None means as `strength`, and so does `low_strength`."""

    name: str
    on: bool = True
    strength: float = 1.0
    strength_clip: float | None = None
    blocks: str = ""
    hash: str = ""
    size: int = 0
    low: str = ""  # the low-noise file of a pair; `name` is then the high-noise one
    low_strength: float | None = None
    low_hash: str = ""
    low_size: int = 0

    def entry(self) -> StackEntry:
        clip = self.strength if self.strength_clip is None else self.strength_clip
        low = self._low_entry(clip)
        return StackEntry(self.name, self.strength, clip, blocks=self.blocks, hash=self.hash, size=self.size, low=low)

    def _low_entry(self, clip: float) -> StackEntry | None:
        if self.low in ("", "None"):
            return None
        strength = self.strength if self.low_strength is None else self.low_strength
        return StackEntry(self.low, strength, clip, blocks=self.blocks, hash=self.low_hash, size=self.low_size)


def parse_rows(value: Any) -> list[Row]:
    """Return the rows of `value`: the versioned object, the same as JSON text, a bare list of rows, or None.

    Raises OptionError for anything else, naming the row.
    """
    if isinstance(value, str):
        if not value.strip():
            return []
        try:
            value = parse_json(value)
        except ValueError as error:
            raise OptionError(f"rows: not valid JSON ({error}); expected {{'v': 1, 'rows': [...]}}.") from error
    if isinstance(value, Mapping) and "__value__" in value:
        value = value["__value__"]
    if value is None:
        return []
    if isinstance(value, Mapping):
        version = value.get("v", ROWS_VERSION)
        if version != ROWS_VERSION:
            raise OptionError(
                f"rows: version {version!r} is unknown to this LoRA Core; update it (it knows version 1)."
            )
        value = value.get("rows", [])
    if not isinstance(value, list):
        raise OptionError(f"rows: expected {{'v': 1, 'rows': [...]}}, found {type(value).__name__}.")
    if len(value) > MOST_ROWS:
        raise OptionError(f"rows: at most {MOST_ROWS}, found {len(value)}; split them over several stacks.")
    return [_parse_row(index, row) for index, row in enumerate(value, start=1)]


def stack_of(rows: Iterable[Row]) -> list[StackEntry]:
    """Return the entries of the rows that are switched on and name a file; raises OptionError for unreadable blocks."""
    used = [row for row in rows if row.on and row.name not in ("", "None")]
    for row in used:
        parse_blocks(row.blocks, f"rows: {row.name}: blocks")
    return [row.entry() for row in used]


def stack_of_one(name: str, strength_model: float, strength_clip: float, blocks: str = "") -> list[StackEntry]:
    """Return a stack of one file, or an empty one for the name "None"."""
    entry = as_entry((name, strength_model, strength_clip))
    return [] if name in ("", "None") else [StackEntry(*entry, blocks=blocks)]


def join_stacks(first: Iterable[Any] | None, then: Iterable[StackEntry]) -> list[StackEntry]:
    """Return both stacks as one new list; `first` may come from any pack and is left as it is.

    Raises OptionError for what is no stack: a workflow may wire or hold anything.
    """
    if first is not None and not isinstance(first, (list, tuple)):
        raise OptionError(f"lora_stack: expected a list of (name, strength_model, strength_clip), found {first!r:.80}.")
    return [_of_a_node(item) for item in first or () if not _is_none(item)] + list(then)


def _is_none(item: Any) -> bool:
    """Tell whether an entry stands for no file, as other packs leave them in."""
    name = item[0] if isinstance(item, (list, tuple)) and item else ()
    return name is None or (isinstance(name, str) and name in ("", "None"))


def _of_a_node(item: Any) -> StackEntry:
    """Return an entry; LoRA Manager names a file outside ComfyUI's folders by its whole path.

    Only a node gives a tuple. A list comes from the text of a workflow, which must not choose what is read: there, a
    path is a name as any other, and means a listed file or none.
    """
    if isinstance(item, StackEntry):
        return item
    name, strength_model, strength_clip = as_entry(item)
    is_path = isinstance(item, tuple) and Path(name).is_absolute()
    return StackEntry(name, strength_model, strength_clip, path=name if is_path else "")


def as_entry(item: Any) -> StackEntry:
    """Return `item`, a three-field entry of any pack, as a StackEntry."""
    if isinstance(item, StackEntry):
        return item
    try:
        name, strength_model, strength_clip = item
    except (TypeError, ValueError) as error:
        raise OptionError(f"lora_stack: expected (name, strength_model, strength_clip), found {item!r}.") from error
    where = f"lora_stack entry {name!r}"
    return StackEntry(str(name), check_strength(strength_model, where), check_strength(strength_clip, where))


def check_strength(value: Any, where: str) -> float:
    """Return `value` as a finite float within the range of the strength inputs, or raise OptionError."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise OptionError(f"{where}: strength must be a number, found {short_repr(value)}.")
    try:
        number = float(value)
    except ValueError as error:
        raise OptionError(f"{where}: strength must be a number, found {short_repr(value)}.") from error
    except OverflowError:  # a whole number of hundreds of digits
        number = math.inf
    if not (math.isfinite(number) and abs(number) <= STRENGTH_LIMIT):
        raise OptionError(f"{where}: strength must be within -100 and 100, found {short_repr(value)}.")
    return number


def each_file(entries: Iterable[StackEntry]) -> Iterator[StackEntry]:
    """Yield every entry, and after it the other file of its pair."""
    for entry in entries:
        yield from (entry, entry.low) if entry.low else (entry,)


def lora_text(entries: Iterable[StackEntry]) -> str:
    """Return the stack as `<lora:name:strength>` tags, with the clip strength where it differs; of pairs both files."""
    tags: list[str] = []
    for name, strength_model, strength_clip in each_file(entries):
        shown = Path(name).name if Path(name).is_absolute() else name
        stem = shown.rsplit(".", 1)[0] if "." in shown.rsplit("/", 1)[-1] else shown
        clip = "" if strength_clip == strength_model else f":{strength_clip:g}"
        tags.append(f"<lora:{stem}:{strength_model:g}{clip}>")
    return " ".join(tags)


def _parse_row(index: int, row: Any) -> Row:
    if not isinstance(row, Mapping):
        raise OptionError(f"rows: row {index} must be an object with a name, found {row!r}.")
    where = f"rows: row {index}"
    return Row(
        name=_name(row, "name", where),
        on=bool(row.get("on", True)),
        strength=check_strength(row.get("strength", 1.0), where),
        strength_clip=_strength_or_none(row, "strength_clip", where),
        blocks=str(row.get("blocks") or ""),
        hash=str(row.get("hash") or ""),
        size=_size(row, "size"),
        low=_name(row, "low", where),
        low_strength=_strength_or_none(row, "low_strength", where),
        low_hash=str(row.get("low_hash") or ""),
        low_size=_size(row, "low_size"),
    )


def _name(row: Mapping[str, Any], field: str, where: str) -> str:
    name = row.get(field) or ""
    if not isinstance(name, str):
        raise OptionError(f"{where}: {field} must be text, found {name!r}.")
    return name.replace("\\", "/")


def _strength_or_none(row: Mapping[str, Any], field: str, where: str) -> float | None:
    value = row.get(field)
    return None if value is None else check_strength(value, where)


def _size(row: Mapping[str, Any], field: str) -> int:
    """Return a size in bytes, 0 for one that is unknown: it only helps to find a file."""
    value = row.get(field)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
