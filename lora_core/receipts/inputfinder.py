"""The files that a receipt names, found among those that are given and in folders: by content, whatever their names."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import FileChangedError, FileFormatError, ReceiptError
from ..files.adapterfolder import adapter_file
from ..files.hashes import Hashes
from ..files.openfile import Mark, mark_of
from ..files.walking import files_below
from ..reading.lorafile import LoraFile
from ..stack.blockterms import parse_blocks
from ..text import NAMES_SHOWN, some_names
from .readback import Entry, ReadReceipt
from .receipt import config_hash

_SHOWN = 20  # problems

LoraGiven = str | os.PathLike[str] | Sequence[Any]  # a path, or a path with strengths, as `merge` takes them


@dataclass(frozen=True, slots=True)
class Inputs:
    base: Path
    loras: list[tuple[Path, float, float, str]]  # as `merge` takes them, in the order of the stack


@dataclass(slots=True)
class InputFinder:
    """Finds what a receipt names. Raises one ReceiptError that says all that is missing or wrong.

    Every file is hashed as it is now, and `hashes` only learns from that: what it knows may be of another file.
    """

    where: str
    receipt: ReadReceipt
    folders: Sequence[Path]
    hashes: Hashes
    problems: list[str] = field(default_factory=list)
    _hashed: dict[Path, tuple[Mark, str]] = field(default_factory=dict)
    _places: dict[str, _SameLoras] = field(default_factory=dict[str, "_SameLoras"])  # of the stack, by content
    _sized: dict[int, _SameSize] | None = None  # the files in the folders

    def inputs(self, base: Path | None, loras: Sequence[LoraGiven]) -> Inputs:
        (entry,) = self.receipt.inputs["base"] or (None,)
        stack = self.receipt.inputs["loras"]
        if entry is None or not stack or not all("sha256" in one for one in stack):
            raise ReceiptError(f"{self.where}: its receipt is broken: it names no base, or no LoRA.")
        for number, one in enumerate(stack):
            self._places.setdefault(one["sha256"], _SameLoras()).add(number, one)
        found_base = self._base(entry, base)
        found = self._loras(loras)
        if self.problems or found_base is None:
            more = len(self.problems) - _SHOWN
            told = self.problems[:_SHOWN] + ([f"  and {more} more"] if more > 0 else [])
            raise ReceiptError(f"{self.where}: can't be verified:", *told)
        return Inputs(found_base, [_item(one, found[number]) for number, one in enumerate(stack)])

    def _base(self, entry: Entry, given: Path | None) -> Path | None:
        if given is None:
            found = None if "files" in entry else self._searched(entry)
            self.problems += [] if found else [f"  the base is missing: {_named(entry)}; give it with --base"]
            return found
        if given.is_dir() != ("files" in entry):
            kinds = ("a file", "a folder")
            self.problems.append(f"  {given.name}: is {kinds[given.is_dir()]}, but the base was {_named(entry)}")
            return None
        files = [(given / one["name"], one) for one in entry["files"]] if "files" in entry else [(given, entry)]
        self.problems += [
            f"  {path.name}: is not the base that was merged into, which is {_named(one)}; its content is "
            f"{self._hash(path)[:12] or 'not readable'}"
            for path, one in files
            if self._hash(path) != one["sha256"]
        ]
        return given

    def _loras(self, given: Sequence[LoraGiven]) -> dict[int, Path]:
        """Return the file of each LoRA of the stack, by its place."""
        found: dict[int, Path] = {}
        for item in given:
            self._place(item, found)
        stack = self.receipt.inputs["loras"]
        twins = {stack[number]["sha256"]: path for number, path in reversed(found.items())}
        for number, entry in enumerate(stack):
            path = found.get(number) or twins.get(entry["sha256"]) or self._searched(entry)
            if path is None:
                self.problems.append(f"  a LoRA is missing: {_named(entry)}{_at(entry)}; give it with --lora")
            else:
                found[number] = path
                twins.setdefault(entry["sha256"], path)
                self._check_beside(path, entry)
        return found

    def _place(self, item: LoraGiven, found: dict[int, Path]) -> None:
        """Find the place in the stack of a LoRA that is given, by its content, and by its strengths if they are too."""
        name, *strengths = [item] if isinstance(item, (str, os.PathLike)) else item
        path = adapter_file(Path(name))
        digest, stack = self._hash(path), self.receipt.inputs["loras"]
        places = self._places.get(digest)
        if places is None:
            names = some_names([_named(entry) for entry in stack[:NAMES_SHOWN]])
            more = f" and {len(stack) - NAMES_SHOWN} more" if len(stack) > NAMES_SHOWN else ""
            self.problems.append(
                f"  {path.name}: is not in the receipt, which names {names}{more}; its content is "
                f"{digest[:12] or 'not readable'}"
            )
            return
        number = places.take(stack, strengths)
        if number is not None:
            found[number] = path
            return
        found.setdefault(places.numbers[0], path)
        at = " and ".join(_at(stack[number]).strip() for number in places.numbers[:NAMES_SHOWN])
        self.problems.append(f"  {path.name}: is given{_given(strengths)}, but the receipt says {at}")

    def _check_beside(self, path: Path, entry: Entry) -> None:
        """Add what differs of the shards that an index lists, and of the configuration that counts."""
        shards = [(one["name"], one["sha256"]) for one in entry.get("shards", ())]
        wrong = [name for name, digest in shards if self._hash(path.parent / name) != digest]
        if wrong:
            self.problems.append(f"  {path.name}: {some_names(wrong)} beside it: not what was merged, or not there")
            return
        with LoraFile(path) as lora:
            if config_hash(lora) != entry.get("config", ""):
                self.problems.append(
                    f"  {path.name}: its adapter_config.json is not the one that {entry['name']} was merged with"
                )

    def _searched(self, entry: Entry) -> Path | None:
        if self._sized is None:
            self._sized = {}
            for path in (path for folder in self.folders for path in files_below(folder, ways=1)):
                with suppress(OSError):  # gone meanwhile, or a link to nowhere
                    self._sized.setdefault(path.stat().st_size, _SameSize()).waiting.append(path)
        same = self._sized.get(entry["bytes"], _SameSize())
        while same.waiting and entry["sha256"] not in same.known:
            path = same.waiting.popleft()
            same.known.setdefault(self._hash(path), path)
        return same.known.get(entry["sha256"])

    def _hash(self, path: Path) -> str:
        """Return the hash of a file's content; an empty text if it can't be read."""
        try:
            if path not in self._hashed:
                self._hashed[path] = mark_of(path.stat()), self.hashes.computed(path)
        except (OSError, ValueError, FileFormatError, FileChangedError):
            return ""
        return self._hashed[path][1]

    def check_unchanged(self) -> None:
        """Raise FileChangedError unless every file that the receipt names still is the one that was hashed."""
        named = {digest for entries in self.receipt.inputs.values() for one in entries for digest in _digests(one)}
        for path, (mark, digest) in self._hashed.items():
            if digest in named and not _is_still(path, mark):
                raise FileChangedError(f"{path.name}: changed while it was compared with the receipt; run again.")


def _digests(entry: Entry) -> Iterator[str]:
    files = [*entry.get("files", ()), *entry.get("shards", ())]
    yield from (one["sha256"] for one in (entry, *files) if "sha256" in one)


def _is_still(path: Path, mark: Mark) -> bool:
    try:
        return mark_of(path.stat()) == mark
    except OSError:
        return False


@dataclass(slots=True)
class _SameLoras:
    """The places in a stack of one LoRA, which may be there many times at different strengths."""

    numbers: list[int] = field(default_factory=list[int])
    _free: dict[int, None] = field(default_factory=dict[int, None])
    _by_strength: dict[tuple[float, float], dict[int, None]] = field(
        default_factory=dict[tuple[float, float], dict[int, None]]
    )

    def add(self, number: int, entry: Entry) -> None:
        self.numbers.append(number)
        self._free[number] = None
        self._by_strength.setdefault(_item(entry, Path())[1:3], {})[number] = None

    def take(self, stack: Sequence[Entry], strengths: Sequence[Any]) -> int | None:
        """Return the first place that is free and has these strengths, and take it; any if there are none."""
        if strengths:
            pair = float(strengths[0]), float(strengths[1] if len(strengths) > 1 else strengths[0])
            free = self._by_strength.get(pair, {})
        else:
            free = self._free
        number = next((number for number in free if _fits(stack[number], strengths)), None)
        if number is not None:
            del self._free[number], self._by_strength[_item(stack[number], Path())[1:3]][number]
        return number


@dataclass(slots=True)
class _SameSize:
    """Files of one size: those that were hashed, and those that were not yet."""

    known: dict[str, Path] = field(default_factory=dict[str, Path])
    waiting: deque[Path] = field(default_factory=deque[Path])


def _item(entry: Entry, path: Path) -> tuple[Path, float, float, str]:
    return path, entry.get("strength_model", 1.0), entry.get("strength_clip", 1.0), entry.get("blocks", "")


def _fits(entry: Entry, strengths: Sequence[Any]) -> bool:
    if not strengths:
        return True
    _, model, clip, blocks = _item(entry, Path())
    given = [float(strengths[0]), float(strengths[1] if len(strengths) > 1 else strengths[0])]
    wanted = str(strengths[2]) if len(strengths) > 2 else ""
    return given == [model, clip] and (not wanted or str(parse_blocks(wanted, "blocks")) == blocks)


def _named(entry: Entry) -> str:
    return entry["name"] + ("" if "files" in entry else f" (sha256 {entry['sha256'][:12]}, {entry['bytes']} bytes)")


def _at(entry: Entry) -> str:
    _, model, clip, blocks = _item(entry, Path())
    more = f" blocks={blocks}" if blocks else ""
    return f" at strength {model:g}" + ("" if clip == model else f", clip {clip:g}") + more


def _given(strengths: Sequence[Any]) -> str:
    if not strengths:
        return " more often than it was merged"
    model, clip, blocks = [*strengths, *(strengths[0], "")[len(strengths) - 1 :]][:3]
    return _at({"strength_model": float(model), "strength_clip": float(clip), "blocks": blocks})
