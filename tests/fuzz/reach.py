"""Which inputs reach lines of our code that others don't: what is worth keeping."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

_OURS = str(Path(__file__).resolve().parents[2] / "lora_core")

Line = tuple[str, int]  # file, number


def reaching_more(check: Callable[[bytes], None], known: Iterable[bytes], found: Iterable[bytes]) -> list[bytes]:
    """Return those of `found`, in order, that reach a line which neither `known` nor one before them reached."""
    reached: set[Line] = set()
    for data in known:
        reached |= _reached(check, data)
    new: list[bytes] = []
    for data in found:
        lines = _reached(check, data)
        if lines - reached:
            new.append(data)
            reached |= lines
    return new


def _reached(check: Callable[[bytes], None], data: bytes) -> set[Line]:
    lines: set[Line] = set()

    def step(frame: FrameType, event: str, value: Any) -> Any:
        if not frame.f_code.co_filename.startswith(_OURS):
            return None
        lines.add((frame.f_code.co_filename, frame.f_lineno))
        return step

    sys.settrace(step)
    try:
        check(data)
    finally:
        sys.settrace(None)
    return lines
