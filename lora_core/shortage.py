"""What the machine has too little of while it works - memory, threads, open files, depth - as one error with a cure."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import wraps
from traceback import clear_frames
from typing import ParamSpec, TypeVar

from .errors import LoraError, ShortageError

Given = ParamSpec("Given")
Result = TypeVar("Result")

MEMORY = (
    "not enough memory for this; nothing was kept. Close other programs or unload models, or take fewer or smaller "
    "files, a lower rank or a smaller number format."
)
THREADS = (
    "the system allows no further thread; nothing was kept. Close other programs, or raise the limit of processes "
    "(ulimit -u, or the container's)."
)
HANDLES = (
    "too many files are open; nothing was kept. Close other programs, or raise the limit of open files (ulimit -n)."
)
DEPTH = "an input is nested too deeply, or too many nodes are chained, for Python to follow; nothing was kept."
# how torch, its allocators and drivers say it: they have one type for whatever goes wrong
_OF_MEMORY = ("not enough memory", "allocate memory", "out of memory", "alloc_cpu", "bad_alloc")
_OF_DEVICE = "OutOfMemoryError"  # torch's, of a device's memory: ComfyUI knows it, and unloads its models
_OF_THREADS = ("start new thread", "thread creation failed")
_OF_SYSTEM = {errno.EMFILE: HANDLES, errno.ENFILE: HANDLES, errno.ENOMEM: MEMORY}


def tells_shortages(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Return the function with what it raises for want of something as a ShortageError: for whatever begins work.

    What the frames that the error came through hold is let go, or it would fill the memory that is wanted next.
    """

    @wraps(function)
    def telling(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except (LoraError, MemoryError, RuntimeError, OSError) as error:
            lines = _told(error)
            if not lines:
                raise
            clear_frames(error.__traceback__)
            raise ShortageError(*lines) from error

    return telling


def _told(error: BaseException) -> list[str]:
    """Return what to say; nothing if it is another error, or one that says all."""
    if isinstance(error, ShortageError):
        return []
    if not isinstance(error, LoraError):
        lack = lacking(error)
        return [lack] if lack else []
    cause = error.__cause__
    while isinstance(cause, LoraError):
        cause = cause.__cause__
    lack = lacking(cause) if isinstance(cause, OSError) else ""  # what else there is may be the input's fault
    return [*str(error).split("\n"), f"The reason: {lack}"] if lack else []


def lacking(error: BaseException) -> str:
    """Return what there is too little of, and what to do; nothing if the error is another one."""
    if isinstance(error, RecursionError):
        return DEPTH
    if type(error).__name__ == _OF_DEVICE:
        return ""
    if isinstance(error, OSError):
        return _OF_SYSTEM.get(error.errno or 0, "")
    text = str(error).lower() if isinstance(error, RuntimeError) else ""
    if isinstance(error, MemoryError) or any(part in text for part in _OF_MEMORY):
        return MEMORY
    return THREADS if any(part in text for part in _OF_THREADS) else ""
