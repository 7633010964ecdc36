"""A model folder written as a whole: built beside its place and renamed, so that it is absent, old, or complete.

No system that we know of can exchange two folders in one step from Python, so an old folder is first renamed. A process
that is killed at that moment leaves it under that name, and the next that writes there puts it back first.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import TracebackType

from ..errors import FileFormatError, OutputError
from ..text import storable
from .flushing import Flusher
from .leftovers import put_back
from .modelfolder import model_parts
from .outputs import REPLACED, as_output_error, check_place, copy_bytes, needs_space, temporary_name
from .placing import patiently, sync_directory, sync_name


class FolderWriter:
    """Makes a temporary folder for the files of a model; `commit()` gives it its name.

    Use as a context manager: without `commit()`, and on any exception, nothing is left. `source` is the folder that
    is rewritten; the output may be neither it, nor inside it, nor around it. An existing folder is replaced only if
    `overwrite` allows it and it is a model folder.
    """

    def __init__(self, path: Path, source: Path, size: int, *, overwrite: bool = False) -> None:
        self.path = path
        self._overwrite = overwrite
        put_back(path)
        _check_target(path, source, overwrite)
        needs_space(path, size)
        self.folder = path.with_name(temporary_name(path.name))

    def __enter__(self) -> FolderWriter:
        try:  # an interrupt may come as soon as the folder is there
            with as_output_error(self.path):
                self.folder.mkdir()
        except BaseException:
            self.discard()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.discard()

    def place(self, *names: str) -> Path:
        """Return the path of a file to be written, its folder made."""
        path = self.folder.joinpath(*names)
        with as_output_error(self.path):
            path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def copy(self, source: Path, *names: str, on_bytes: Callable[[int], None] | None = None) -> None:
        """Copy a file's bytes."""
        path = self.place(*names)
        with as_output_error(self.path), source.open("rb") as there, path.open("wb") as here:
            flusher = Flusher(here.fileno())

            def count(nbytes: int) -> None:
                flusher.add(nbytes)
                if on_bytes:
                    on_bytes(nbytes)

            try:
                size = os.fstat(there.fileno()).st_size
                copy_bytes(source, there.fileno(), 0, here.fileno(), 0, size, count)
            finally:
                flusher.finish()
            os.fsync(here.fileno())

    def write_text(self, text: str, *names: str) -> None:
        path = self.place(*names)
        with as_output_error(self.path), path.open("w", encoding="utf-8", newline="\n") as file:
            file.write(storable(text))
            file.flush()
            os.fsync(file.fileno())

    def commit(self) -> None:
        """Give the folder its name; what it replaces is removed afterwards."""
        with as_output_error(self.path):
            for folder, _, _ in os.walk(self.folder):
                sync_directory(Path(folder))
            if not self._overwrite or not self.path.exists():
                # fails if a folder with content was made meanwhile
                patiently(lambda: self.folder.rename(self.path))
            else:
                self._replace()
        sync_name(self.path)

    def discard(self) -> None:
        """Remove the temporary folder, if it still is one."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _replace(self) -> None:
        old = self.path.with_name(temporary_name(self.path.name, REPLACED))
        patiently(lambda: self.path.rename(old))
        try:
            patiently(lambda: self.folder.rename(self.path))
        except BaseException:
            old.rename(self.path)
            raise
        shutil.rmtree(old, ignore_errors=True)


def other_files(folder: Path, skipped: Collection[Path]) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Yield (file, its names below `folder`) of everything but hidden and skipped files, links followed."""
    yield from _files(folder, (), set(skipped), frozenset({folder.resolve()}))


def _files(
    folder: Path, names: tuple[str, ...], skipped: set[Path], above: frozenset[Path]
) -> Iterator[tuple[Path, tuple[str, ...]]]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path in skipped:
            continue
        if path.is_file():
            yield path, (*names, path.name)
        elif path.is_dir() and path.resolve() not in above:  # a link to a folder above would never end
            yield from _files(path, (*names, path.name), skipped, above | {path.resolve()})


def _check_target(path: Path, source: Path, overwrite: bool) -> None:
    if not path.name:
        raise OutputError(f"{path}: the output needs a name of its own.")
    if path.suffix == ".safetensors":
        raise OutputError(f"{path.name}: the base is a folder, and so is the output; leave .safetensors out.")
    check_place(path)
    there, here = source.resolve(), path.resolve()
    if there == here or there in here.parents or here in there.parents:
        raise OutputError(f"{path.name}: is also an input, or inside or around one; choose another folder.")
    if not path.exists() and not path.is_symlink():
        return
    if not overwrite:
        raise OutputError(f"{path.name}: already exists; choose another name or allow overwriting.")
    if not path.is_dir() or path.is_symlink():
        raise OutputError(f"{path.name}: is not a folder and won't be replaced.")
    try:
        model_parts(path)
    except FileFormatError as error:
        raise OutputError(f"{path.name}: is not a model folder and won't be replaced.") from error
