"""What is being written, under a name of its own beside its place: held by a lock, and removed if it is not finished.

Its folder is kept open, so that it is found there although somebody renames the folder meanwhile.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from ..errors import OutputError
from ..text import message_line, storable
from .locks import LOCK_FILE, take
from .outputs import NOTHING_KEPT, PARTIAL, as_output_error, temporary_name
from .placing import give_name, patiently, sync_name, take_mode

log = logging.getLogger(__name__)

_ATTEMPTS = 8  # to make one that nobody takes for a leftover in the moment before it is locked
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_FOLDER = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_REMOVED = (".nfs", ".fuse_hidden")  # how servers call what is removed and still open


class Temporary:
    """A file that will be `target`: its name, its folder, and the lock."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(temporary_name(target.name))
        self._folder = self._lock = -1  # descriptors
        self._is_kept = False  # or named

    def create(self) -> int:
        """Make the file and return its descriptor, which is the caller's to close; raises OSError."""
        self._open_folder()
        for _ in range(_ATTEMPTS):
            fd = os.open(self.path, _CREATE, 0o666)  # less the umask, as any new file
            if os.name == "nt":  # an open file can be neither removed nor renamed there
                break
            self._lock = os.dup(fd)  # held until the file has its name, when `fd` is closed
            if take(fd) != "held" and self._is_there():
                break
            os.close(fd)
            self._again()
        else:
            raise OSError(f"somebody removes whatever is written to {self.target.parent.name}")
        return fd

    def keep(self) -> None:
        """Leave it there: somebody is told of it."""
        self._is_kept = True

    def take_name(self, overwrite: bool) -> None:
        """Give the finished file its name; raises OSError, and OutputError if what is there then must be told."""
        self.check_place()
        take_mode(self.path, self.target)
        give_name(self.path, self.target, overwrite)
        self._is_kept = True
        with suppress(OSError):
            self._remove()
        if self._is_at_its_name():
            raise OutputError(
                f"{self.target.name}: is complete, but {self.path.name}, a second name of the same file, could not be "
                "removed: delete that."
            )

    def check_place(self) -> None:
        """Raise OutputError unless it and its folder still have the names under which this was begun."""
        try:
            is_same = self._folder < 0 or os.path.samestat(os.fstat(self._folder), self.path.parent.stat())
        except OSError:
            is_same = False
        if not is_same:
            what = f"its folder {self.path.parent.name}"
        elif self._lock >= 0 and not self._is_there():
            what = f"the unfinished {self.path.name}"
        else:
            return
        raise OutputError(f"{self.target.name}: {what} was renamed, moved or removed meanwhile; {NOTHING_KEPT}.")

    def end(self, error: BaseException | None) -> None:
        """Remove it, if it still is there; if that fails, what is left is told in place of that nothing was kept."""
        left = ""
        try:
            if not self._is_kept:
                with suppress(OSError):  # why it is removed counts
                    self._remove()
                left = self._left()
        finally:  # a second interrupt too
            self._release()
        if left and isinstance(error, OutputError) and NOTHING_KEPT in str(error):
            raise OutputError(str(error).replace(NOTHING_KEPT, f"what was written is left as {left}")) from error
        if left:
            told = f"{self.target.name}: what was written could not be removed, and is left as {left}"
            log.warning(message_line(told))

    @property
    def _where(self) -> tuple[str, int | None]:
        return (str(self.path), None) if self._folder < 0 else (self.path.name, self._folder)

    def _open_folder(self) -> None:
        if os.open not in os.supports_dir_fd:
            return
        for flags in (os.O_RDONLY, getattr(os, "O_PATH", os.O_RDONLY)):  # the second for one that may not be listed
            with suppress(OSError):
                self._folder = os.open(self.path.parent, flags | os.O_DIRECTORY)
                return

    def _is_there(self) -> bool:
        """Tell whether what is locked still has its name; then nobody removes it any more."""
        name, folder = self._where
        try:
            return os.path.samestat(os.fstat(self._lock), os.stat(name, dir_fd=folder, follow_symlinks=False))
        except OSError:
            return False

    def _is_at_its_name(self) -> bool:
        name, folder = self._where
        try:
            os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:
            return False
        return True

    def _again(self) -> None:
        """Take another name: somebody was just removing what had the first, or put another folder there."""
        with suppress(OSError):
            self._remove()
            self.path.unlink()
        os.close(self._lock)
        self._lock, self.path = -1, self.target.with_name(temporary_name(self.target.name))

    def _remove(self) -> None:
        name, folder = self._where
        with suppress(FileNotFoundError):
            patiently(lambda: os.unlink(name, dir_fd=folder))

    def _left(self) -> str:
        """Return the name of what is left: nothing if nothing is, or if it lies in something that goes as well."""
        if any(above.startswith(".") and above.endswith(PARTIAL) for above in self.path.parent.parts):
            return ""
        name = self.path.name if self._is_at_its_name() else _name_now(self._lock)
        return "" if name == self.target.name else name  # it was just finished

    def _release(self) -> None:
        for fd in (self._lock, self._folder):
            if fd >= 0:
                with suppress(OSError):
                    os.close(fd)
        self._lock = self._folder = -1


class TemporaryFolder(Temporary):
    """A folder that will be `target`."""

    def __init__(self, target: Path) -> None:
        super().__init__(target)
        self._inner = -1  # descriptor of the file that is locked for servers

    def make(self) -> None:
        """Make the folder; raises OSError."""
        self._open_folder()
        for _ in range(_ATTEMPTS):
            name, folder = self._where
            os.mkdir(name, dir_fd=folder)
            if folder is None:  # Windows opens no folder
                return
            with suppress(OSError):  # removed in this moment
                self._lock = os.open(name, os.O_RDONLY | _FOLDER, dir_fd=folder)
                self._inner = os.open(LOCK_FILE, _CREATE, 0o666, dir_fd=self._lock)
                if take(self._lock) != "held" and take(self._inner) != "held" and self._is_there():
                    return
            self._again()
        raise OSError(f"somebody removes whatever is written to {self.target.parent.name}")

    def unlock(self) -> None:
        """Remove what is in the folder for its lock alone."""
        if self._inner >= 0:
            os.unlink(LOCK_FILE, dir_fd=self._lock)

    def _again(self) -> None:
        self._close_inner()
        super()._again()

    def _remove(self) -> None:
        name, folder = self._where
        if self._lock >= 0 and not self._is_there():  # renamed by somebody: what has the name now is not ours
            return
        if folder is not None and sys.version_info >= (3, 11):
            shutil.rmtree(name, dir_fd=folder)
        elif folder is None or os.path.samestat(os.fstat(folder), self.path.parent.stat()):
            shutil.rmtree(self.path)

    def _release(self) -> None:
        self._close_inner()
        super()._release()

    def _close_inner(self) -> None:
        if self._inner >= 0:
            with suppress(OSError):
                os.close(self._inner)
            self._inner = -1


def _name_now(fd: int) -> str:
    """Return the name that somebody gave to an open file, where the system tells it; an empty text if it is removed."""
    try:
        path = Path(f"/proc/self/fd/{fd}").readlink()
    except OSError:
        return ""
    return path.name if os.path.lexists(path) and not path.name.startswith(_REMOVED) else ""


def write_text(path: Path, text: str, *, overwrite: bool) -> None:
    """Write a small file as a whole; raises OutputError, and then the target is what it was."""
    temporary, error = Temporary(path), None
    try:
        with as_output_error(path):
            with os.fdopen(temporary.create(), "w", encoding="utf-8", newline="\n") as file:
                file.write(storable(text))
                file.flush()
                os.fsync(file.fileno())
            temporary.take_name(overwrite)
    except BaseException as failed:
        error = failed
        raise
    finally:
        temporary.end(error)
    sync_name(path)
