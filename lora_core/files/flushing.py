"""What is written goes to the disk while the rest is still being made, so that little is left to wait for."""

from __future__ import annotations

import os
import threading
from queue import SimpleQueue

from ..parallel.threads import Computation

FLUSH_BYTES = 128 * 2**20  # that are written between two flushes


class Flusher:
    """Flushes an open file to disk from a thread of its own, whenever enough has been written.

    `finish()` ends the thread; call it before the file is closed.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._waiting = 0
        self._wanted, self._finished = SimpleQueue[None](), False
        self._task: Computation[None] | None = None
        self._error: OSError | None = None

    def add(self, nbytes: int) -> None:
        """Count what is written; any thread may."""
        if not hasattr(os, "fdatasync"):  # macOS and Windows
            return
        with self._lock:
            self._waiting += nbytes
            if self._waiting < FLUSH_BYTES:
                return
            self._waiting = 0
            if self._task is None:
                self._task = Computation(self._flush)
                self._task.start()
        self._wanted.put(None)

    def finish(self) -> None:
        """Wait for the flush in progress; raises the OSError of any that failed, which no later flush would tell."""
        self._finished = True
        self._wanted.put(None)
        if self._task:
            self._task.drop()
        if self._error:
            raise self._error

    def _flush(self) -> None:
        while self._next_is_wanted():
            try:
                os.fdatasync(self._fd)
            except OSError as error:
                self._error = error
                return

    def _next_is_wanted(self) -> bool:
        """Wait until enough has been written since the last flush began; False when the file is finished."""
        self._wanted.get()
        while not self._wanted.empty():
            self._wanted.get()
        return not self._finished
