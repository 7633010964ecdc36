"""The content hashes of an operation's inputs, computed on a thread beside the work: no step waits for them until the
last one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

from ..errors import FileChangedError, FileFormatError
from ..files.hashes import Hashes, content_hash, remembered
from ..parallel.progress import OnStep
from ..parallel.threads import SECONDS, Computation

AHEAD = 256 * 2**20  # bytes that may be hashed before the work comes to them: it finds them in the page cache then
LARGE = 64 * 2**20  # bytes; a smaller file is hashed again sooner than remembered


class InputHashes:
    """Hashes files in order, those that `hashes` remembers without reading them. Use as a context manager.

    `step`, called instead of `on_step`, tells how far the work is. On leaving, the thread is ended.
    """

    def __init__(self, paths: Sequence[Path], hashes: Hashes | None = None, on_step: OnStep | None = None) -> None:
        self._paths = list(dict.fromkeys(paths))
        self._hashes = hashes or remembered()
        self._on_step, self._last = on_step, (0, 1)
        self._found: dict[Path, str] = {}
        self._moved = SimpleQueue[None]()
        self._cancelled = False
        self._allowed, self._read = float(AHEAD), 0  # bytes
        self._total = sum(_size(path) for path in self._paths)
        self._task = Computation(self._run)

    def __enter__(self) -> InputHashes:
        try:
            self._task.start()
        except BaseException:
            self._cancelled = True
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._cancelled = True
        self._moved.put(None)
        self._task.drop()

    def step(self, done: int, total: int) -> None:
        """Tell that of `total` so much of the work is done."""
        self._last = done, total
        self._allow(self._total * done / total + AHEAD if done < total else float("inf"))
        if self._on_step:
            self._on_step(done, total)

    def wait(self) -> dict[Path, str]:
        """Return {path: hash}; `on_step` is called again and again meanwhile. Raises what hashing raised."""
        self._allow(float("inf"))
        while not self._task.is_done:
            self._task.wait()
            if self._on_step:
                self._on_step(*self._last)
        self._task.result()
        return self._found

    def _allow(self, nbytes: float) -> None:
        self._allowed = nbytes
        if self._moved.empty():
            self._moved.put(None)

    def _run(self) -> None:
        for path in self._paths:
            self._found[path] = self._hash(path)

    def _hash(self, path: Path) -> str:
        known = self._hashes.of if _size(path) >= LARGE else content_hash
        try:
            return known(path, self._pace)
        except FileFormatError as error:
            if path.exists():
                raise
            # the work has it open, so it was there
            raise FileChangedError(f"{path.name}: disappeared while it was being read.") from error

    def _pace(self, nbytes: int) -> None:
        while not self._cancelled and self._read > self._allowed:
            with suppress(Empty):
                self._moved.get(timeout=SECONDS)
        if self._cancelled:
            raise _HashingCancelledError
        self._read += nbytes


class _HashingCancelledError(Exception):
    """Nobody waits for the hashes any more."""


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # hashing it tells
        return 0
