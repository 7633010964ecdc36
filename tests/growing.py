"""How work grows with its input, by counts of what Python executes: the same on every machine, fast or slow."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

Run = Callable[[], Any]


def operations(run: Run) -> int:
    """Return how many of the interpreter's instructions a call executes; loops inside of C code are not among them."""
    count = 0

    def in_frame(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        count += event == "opcode"
        return in_frame

    def entered(frame: FrameType, event: str, _: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return in_frame

    before = sys.gettrace()
    sys.settrace(entered)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


def exponent(prepare: Callable[[int], Run], size: int) -> float:
    """Return e of operations ~ n^e between inputs of `size` and of four times that; `prepare` makes the call of one."""
    prepare(2)()  # what is done only once, such as imports
    small, large = (operations(prepare(count)) for count in (size, 4 * size))
    return math.log(large / small, 4)


def at_depth(frames: int, run: Run) -> Any:
    """Call `run` as a program does that is some frames deep itself."""
    return run() if frames == 0 else at_depth(frames - 1, run)
