"""Ctrl-C, and being told to end: work stops once, and what cleans up after it is left in peace."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

from ..parallel.progress import OnStep

# what a terminal, a task manager, and the end of a session send; not all systems have the last
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
# Python code that may hold a lock which others wait for, or that swallows what is raised in it
_LOCKING = frozenset(("threading", "queue", "concurrent", "weakref", "contextlib", "logging", "tempfile", "tqdm"))
_SETTLING = frozenset(("__enter__", "__exit__", "__del__"))  # half done, they leave what nobody would clean up


class Interrupts:
    """While entered, raises KeyboardInterrupt at the first signal, or as soon after it as that can be, and at no other.

    Python runs a signal's handler wherever the program is. Raised while an object is being destroyed, the exception is
    lost; raised while torch is being imported, it meets code that swallows it, or half a library; raised while a lock
    of Python's is held, it leaves it locked, and whoever takes it waits for ever. There nothing is raised: `check`, as
    each step of `watching` does, raises what was lost or put off, and has to be called at the end too.
    """

    def __init__(self) -> None:
        self._is_told = self._is_raised = False
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
            self._is_raised = True
            raise KeyboardInterrupt

    def watching(self, on_step: OnStep | None) -> OnStep:
        """Return a callback that checks, then calls `on_step`."""

        def step(done: int, total: int) -> None:
            self.check()
            if on_step:
                on_step(done, total)

        return step

    def _tell(self, number: int, frame: FrameType | None) -> None:
        self._is_told = True
        if not self._is_raised and not _is_delicate(frame):
            self._is_raised = True
            raise KeyboardInterrupt


def _is_delicate(frame: FrameType | None) -> bool:
    """Tell whether an exception that is raised here may be lost, or may leave something locked or half done."""
    while frame is not None:
        code, module = frame.f_code, str(frame.f_globals.get("__name__"))
        is_importing = code.co_filename.startswith("<frozen import")
        if is_importing or code.co_name in _SETTLING or module.partition(".")[0] in _LOCKING:
            return True
        frame = frame.f_back
    return False
