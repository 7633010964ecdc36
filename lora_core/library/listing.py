"""The file that a workflow means: by its exact name, then tolerantly, then by its base name, then by its content.

Workflows are shared: the file may lie in another folder, have another name, or be known by a path of Windows. There is
never a guess between two files, and whoever asks is told how a file was found. Files are only read for it during a run:
before one, what is known of their contents has to do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from ..errors import AmbiguousFileError, FileChangedError, FileFormatError, NoSuchFileError, NotHashedError
from ..files.hashes import Hashes
from ..parallel.progress import OnStep
from ..text import normal, some_names

LONGEST_NAME = 4_096  # characters; no system has a longer path
_HASH = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")
How = Literal["exact", "slashes", "case", "base name", "hash"]

_MOST_CANDIDATES = 100  # that are offered for a name

_HOW_TEXTS: dict[How, str] = {
    "slashes": "",  # the same path
    "case": "by the same name in other letters",
    "base name": "by its base name",
    "hash": "by its content",
}


@dataclass(frozen=True, slots=True)
class ResolvedFile:
    """A listed file, how it was found, and what the user should be told of that."""

    name: str
    how: How
    note: str = ""


@dataclass(frozen=True)
class Listing:
    """The files that may be chosen: relative names, the path of each, what to call the place, and content hashes.

    It knows them as they were when it was first asked, so make a new one for each task. `on_step` hears of the bytes
    that are hashed, and may raise to cancel; with None, as before a run, nothing is.
    """

    names: Sequence[str]
    path: Callable[[str], Path]
    where: str
    hashes: Hashes = field(default_factory=Hashes)
    on_step: OnStep | None = lambda _, __: None
    _contents: dict[str, str] = field(default_factory=dict[str, str])  # name -> hash, empty if it is not known

    def find(self, name: str, size: int = 0, hash: str = "") -> ResolvedFile:
        """Return the file that `name` means; `size` in bytes and `hash` are those of the file that was chosen.

        Raises NoSuchFileError, AmbiguousFileError if several fit, or NotHashedError where a run has to tell.
        """
        if len(name) > LONGEST_NAME:
            raise NoSuchFileError(f"{name[:60]}…: a name of {len(name)} characters; no file has one.")
        wanted = name.replace("\\", "/")
        base_name: list[str] = []
        for how, fitting in self._rungs(name, wanted):
            if not fitting:
                continue
            if how == "base name":
                base_name = fitting
                break
            same = fitting if len(fitting) == 1 else self._same_content(name, fitting, size, hash)
            if len(same) != 1:
                raise self._ambiguous(name, same or fitting)
            return ResolvedFile(same[0], how, self._note(name, same[0], how, size, hash))
        return self._by_content(name, base_name, size, hash)

    def possible(self, name: str, size: int = 0, hash: str = "") -> list[str]:
        """Return the files that `name` may mean, as far as can be told without reading any."""
        try:
            return [self.find(name, size, hash).name]
        except NotHashedError as error:
            return list(error.candidates)
        except FileFormatError:
            return []

    def _rungs(self, name: str, wanted: str) -> Iterable[tuple[How, list[str]]]:
        yield "exact", [name] if name in self._exact else []
        yield "slashes", self._slashes.get(wanted, [])
        yield "case", self._case.get(_case(wanted), [])
        yield "base name", self._base_names.get(_base_name(wanted), [])

    def _by_content(self, name: str, named: list[str], size: int, hash: str) -> ResolvedFile:
        """Choose among files of the same base name, or any of the same content; what is named alike comes first."""
        same, how = self._same_content(name, named, size, hash), "base name"
        if not same and (same := self._same_content(name, self.names, size, hash)):
            how = "hash"
        if len(same) > 1:
            raise self._ambiguous(name, same)
        if not same and len(named) > 1:
            raise self._ambiguous(name, named)
        if not same and not named:
            raise NoSuchFileError(f"{name}: no such file in {self.where}; put it there or choose another.")
        found = (same or named)[0]
        return ResolvedFile(found, how, self._note(name, found, how, size, hash))

    def _same_content(self, name: str, group: Sequence[str], size: int, hash: str) -> list[str]:
        """Return those of this size and content among the names of one group; only those of this size are read."""
        wanted = hash.lower()
        if not group or not size or not _HASH.fullmatch(wanted):
            return []
        place = id(group), size  # groups stay: they are `names` and what the indexes below hold
        if place not in self._by_hash:
            is_all = group is self.names
            sized = self._by_size.get(size, []) if is_all else [one for one in group if self._sizes[one] == size]
            self._by_hash[place] = self._hashed(sized)
        found = self._by_hash[place]
        same, unread = found.get(wanted, []), found.get("", [])
        if unread and not same and self.on_step is None:
            text = f"{name}: only the content of files of its size can tell which it is: {some_names(unread)}."
            raise NotHashedError(text, unread)
        return same

    def _hashed(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Return files by what their contents are known by; by an empty text those that nobody may read now."""
        for name in (name for name in names if name not in self._contents):
            self._contents[name] = self._known(name)
        unread = [name for name in names if not self._contents[name]]
        if self.on_step is not None:
            total, done = sum(self._sizes[name] for name in unread), 0
            for name in unread:
                self._contents[name] = self._hash(name, done, total) or "unreadable"
                done += self._sizes[name]
        return grouped(names, self._contents.__getitem__)

    def _hash(self, name: str, done: int, total: int) -> str:
        def on_bytes(count: int) -> None:
            nonlocal done
            assert self.on_step is not None
            self.on_step(done, total)
            done += count

        try:
            return self.hashes.of(self.path(name), on_bytes)
        except (FileFormatError, FileChangedError):
            return ""

    def _known(self, name: str) -> str:
        try:
            return self.hashes.known(self.path(name))
        except FileFormatError:
            return ""

    def _note(self, name: str, found: str, how: How, size: int, hash: str) -> str:
        text = _HOW_TEXTS.get(how, "")
        notes = [f"found as {found} ({text})"] if text else []
        if how != "hash" and self._is_other(found, size, hash):
            notes.append("another file of the same name: its content is not that of the file that was chosen")
        return f"{name}: {'; '.join(notes)}." if notes else ""

    def _is_other(self, name: str, size: int, hash: str) -> bool:
        """Tell whether a file is known to be another than the one of this size and content; nothing is read for it."""
        if size and self._size(name) not in (0, size):
            return True
        known = self._known(name) if hash else ""
        return bool(known) and known != hash.lower()

    def _size(self, name: str) -> int:
        try:
            return self.path(name).stat().st_size
        except (OSError, ValueError, FileFormatError):  # listed, and gone since
            return 0

    def _ambiguous(self, name: str, fitting: Iterable[str]) -> AmbiguousFileError:
        options = sorted(fitting)
        text = f"{name}: several files in {self.where} fit: {some_names(options)}; choose one of them."
        return AmbiguousFileError(text, options[:_MOST_CANDIDATES])

    @cached_property
    def _exact(self) -> frozenset[str]:
        return frozenset(self.names)

    @cached_property
    def _sizes(self) -> dict[str, int]:
        return {name: self._size(name) for name in self.names}

    @cached_property
    def _by_hash(self) -> dict[tuple[int, int], dict[str, list[str]]]:
        return {}

    @cached_property
    def _by_size(self) -> dict[int, list[str]]:
        return grouped(self.names, self._sizes.__getitem__)

    @cached_property
    def _slashes(self) -> dict[str, list[str]]:
        return grouped(self.names, lambda name: name.replace("\\", "/"))

    @cached_property
    def _case(self) -> dict[str, list[str]]:
        return grouped(self.names, _case)

    @cached_property
    def _base_names(self) -> dict[str, list[str]]:
        return grouped(self.names, _base_name)


def resolve(name: str, listed: Iterable[str], where: str) -> str:
    """Return the one of `listed` relative paths that `name` means, by names alone; raises as `Listing.find`."""
    return Listing(list(listed), Path, where).find(name).name


def grouped(names: Iterable[str], key: Callable[[str], T]) -> dict[T, list[str]]:
    """Return the names of each key, in their order."""
    groups: dict[T, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return groups


def _case(name: str) -> str:
    return normal(normal(name.replace("\\", "/")).casefold())


def _base_name(name: str) -> str:
    return _case(name).rsplit("/", 1)[-1]
