"""A model folder written as a whole: built beside its place and renamed, so that it is absent, old, or complete.

No system that we know of can exchange two folders in one step from Python, so an old folder is first renamed. A process
that is killed at that moment leaves it under that name, and the next that writes there puts it back first.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from ..errors import FileFormatError, OutputError
from ..text import some_names, storable
from .flushing import Flusher
from .foldercontent import Names, foreign_files
from .leftovers import put_back
from .locks import Lock
from .modelfolder import model_parts
from .outputs import REPLACED, as_output_error, check_place, copy_bytes, needs_space, temporary_name
from .placing import patiently, sync_directory, sync_name
from .temporary import TemporaryFolder


class FolderWriter:
    """Makes a temporary folder for the files of a model; `commit()` gives it its name.

    Use as a context manager: without `commit()`, and on any exception, nothing is left. `source` is the folder that
    is rewritten; the output may be neither it, nor inside it, nor around it. An existing folder is replaced only if
    `overwrite` allows it, it is a model folder, and holds nothing but a model; `written` are the files to come.
    """

    def __init__(
        self, path: Path, source: Path, size: int, *, overwrite: bool = False, written: Collection[Names] | None = None
    ) -> None:
        self.path = path
        self._overwrite = overwrite
        put_back(path)
        _check_target(path, source, overwrite)
        if written is not None:
            self._check_nothing_is_lost(written)
        needs_space(path, size)
        self._temporary = TemporaryFolder(path)

    def __enter__(self) -> FolderWriter:
        try:  # an interrupt may come as soon as the folder is there
            with as_output_error(self.path):
                self._temporary.make()
        except BaseException as error:
            self._temporary.end(error)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._temporary.end(error)

    @property
    def folder(self) -> Path:
        """The temporary one."""
        return self._temporary.path

    def place(self, *names: str) -> Path:
        """Return the path of a file to be written, its folder made."""
        self._temporary.check_place()  # a folder that was renamed must not be made again
        path = self.folder
        with as_output_error(self.path):
            for name in names[:-1]:
                path /= name
                with suppress(FileExistsError):
                    path.mkdir()
        return path / names[-1]

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
        self._temporary.check_place()
        with as_output_error(self.path):
            self._temporary.unlock()
            for folder, _, _ in os.walk(self.folder):
                sync_directory(Path(folder))
            if not self._overwrite or not self.path.exists():
                # fails if a folder with content was made meanwhile
                patiently(lambda: self.folder.rename(self.path))
                self._temporary.keep()
            else:
                self._check_nothing_is_lost(_names_in(self.folder))
                self._replace()
        sync_name(self.path)

    def _check_nothing_is_lost(self, written: Collection[Names]) -> None:
        if self._overwrite and self.path.is_dir() and (foreign := foreign_files(self.path, written)):
            raise OutputError(
                f"{self.path.name}: holds what is not of the model and would be lost: {some_names(foreign)}; move it "
                "elsewhere, or choose another name."
            )

    def _replace(self) -> None:
        old = self.path.with_name(temporary_name(self.path.name, REPLACED))
        with Lock(self.path):  # nobody puts it back meanwhile
            patiently(lambda: self.path.rename(old))
            try:
                patiently(lambda: self.folder.rename(self.path))
            except BaseException as error:
                _put_again(old, self.path, error)
                raise
            self._temporary.keep()
            shutil.rmtree(old, ignore_errors=True)
        if os.path.lexists(old):
            raise OutputError(
                f"{self.path.name}: is complete, but what it replaced could not be removed, and is left as {old.name}: "
                "delete that."
            )


def _put_again(old: Path, path: Path, error: BaseException) -> None:
    """Give the old folder its name again; if that fails too, say where it is."""
    try:
        old.rename(path)
    except OSError as second:
        if os.path.lexists(old):
            raise OutputError(
                f"{path.name}: can't be replaced ({error}), and what was there can't get its name again "
                f"({second.strerror}): it is {old.name} now, whole; rename it."
            ) from error


def _names_in(folder: Path) -> set[Names]:
    return {Path(parent, name).relative_to(folder).parts for parent, _, files in os.walk(folder) for name in files}


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
