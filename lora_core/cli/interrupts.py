"""Ctrl-C, and being told to end: work stops once, and what cleans up after it is left in peace."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

from ..parallel.progress import OnStep

# what a terminal, a task manager, and the end of a session send; not all systems have the last
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class Interrupts:
    """While entered, raises KeyboardInterrupt at the first signal, and at no other.

    Python runs a signal's handler wherever the program is. Raised while an object is being destroyed, the exception is
    lost; raised while torch is being imported, it meets code that swallows it, or half a library. So during an import
    nothing is raised, and `check`, as each step of `watching` does, raises what was lost or put off.
    """

    def __init__(self) -> None:
        self._is_told = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        for number in (getattr(signal, name) for name in _NAMES if hasattr(signal, name)):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` wants it
                self._before[number] = signal.signal(number, self._tell)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal came."""
        if self._is_told:
            raise KeyboardInterrupt

    def watching(self, on_step: OnStep | None) -> OnStep:
        """Return a callback that checks, then calls `on_step`."""

        def step(done: int, total: int) -> None:
            self.check()
            if on_step:
                on_step(done, total)

        return step

    def _tell(self, number: int, frame: FrameType | None) -> None:
        if not self._is_told:
            self._is_told = True
            if not _is_importing(frame):
                raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen import"):
            return True
        frame = frame.f_back
    return False
