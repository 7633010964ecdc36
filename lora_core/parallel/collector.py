"""No search for cyclic garbage while many objects are made that all stay.

Python begins one each time their number has grown by a quarter, and goes through all objects of the process: in
ComfyUI each takes 0.3 s, in which no other thread has its turn.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Generator
from contextlib import contextmanager


class _Pauses:
    """How many are on, in all threads: the collector belongs to the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._on = 0
        self._was_enabled = False

    def begin(self) -> None:
        with self._lock:
            if not self._on:
                self._was_enabled = gc.isenabled()
                gc.disable()
            self._on += 1

    def end(self) -> None:
        with self._lock:
            self._on -= 1
            if not self._on and self._was_enabled:
                _as_old()
                gc.enable()


def _as_old() -> None:
    """Have all objects counted as old, without a look at each: else the next small search goes through the new ones."""
    if not gc.get_freeze_count():  # what somebody has frozen stays so
        gc.freeze()
        gc.unfreeze()


_pauses = _Pauses()


@contextmanager
def collections_paused() -> Generator[None, None, None]:
    """Pause them, in all threads, for the body or the function that this decorates, which makes many objects."""
    _pauses.begin()
    try:
        yield
    finally:
        _pauses.end()
