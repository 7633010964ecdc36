"""What is written goes to the disk while the rest is still being made, so that little is left to wait for."""

from __future__ import annotations

import os
import threading

FLUSH_BYTES = 128 * 2**20  # that are written between two flushes


class Flusher:
    """Flushes an open file to disk from a thread of its own, whenever enough has been written.

    `finish()` ends the thread; call it before the file is closed.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._waiting = 0
        self._wanted, self._finished = threading.Event(), False
        self._thread: threading.Thread | None = None
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
            if self._thread is None:
                self._thread = threading.Thread(target=self._flush, name="lora_core flush")
                self._thread.start()
        self._wanted.set()

    def finish(self) -> None:
        """Wait for the flush in progress; raises the OSError of any that failed, which no later flush would tell."""
        self._finished = True
        self._wanted.set()
        while self._thread and self._thread.is_alive():
            try:
                self._thread.join()
            except KeyboardInterrupt:  # the file must not be closed under it; whatever comes next can be interrupted
                continue
        if self._error:
            raise self._error

    def _flush(self) -> None:
        while self._wanted.wait() and not self._finished:
            self._wanted.clear()
            try:
                os.fdatasync(self._fd)
            except OSError as error:
                self._error = error
                return
