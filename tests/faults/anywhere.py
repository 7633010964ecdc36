"""An interrupt at one chosen place of the code, wherever Python looks for signals: after calls, at loops, at entries.

A random moment hits the few instructions after a lock was taken once in hundreds of runs; here each is hit on purpose.
"""

from __future__ import annotations

import dis
import random
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from lora_core.files import flushing
from tests.faults.children import Child, command
from tests.faults.operations import Case
from tests.faults.points import Point
from tests.faults.stops import EVERY, SECONDS, Call, in_a_script, judged_stop

# the parts that threads share; what they were made of before is traced too, so that an old version can be tried
MODULES = ("lora_core.parallel", "lora_core.receipts.hashing", "lora_core.files.flushing", "concurrent.futures",
           "threading", "weakref")  # fmt: skip
_LOOKING = frozenset(
    number for name, number in dis.opmap.items() if name.startswith(("CALL", "JUMP_BACKWARD", "JUMP_ABSOLUTE"))
)
_MARK = "place: "
Place = tuple[str, str, int, str, str]  # module, function, instruction, event, caller: who takes a lock counts


class Places:
    """Counts the places that the main thread comes through, each by its first time, and interrupts at one of them."""

    def __init__(self, at: int = -1, number: signal.Signals = signal.SIGINT) -> None:
        self.seen: dict[Place, None] = {}
        self._at, self._number = at, number
        self._last: dict[int, int] = {}  # the last instruction of each frame
        self._codes: dict[CodeType, bytes] = {}

    def run(self, call: Callable[[], Any]) -> Any:
        sys.settrace(self._enter)
        try:
            return call()
        finally:
            sys.settrace(None)

    def _enter(self, frame: FrameType, event: str, arg: object) -> Any:
        if not str(frame.f_globals.get("__name__")).startswith(MODULES):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self._last.pop(id(frame), None)
        self._come(frame, "entry")
        return self._step

    def _step(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "opcode":
            code = frame.f_code
            number = self._codes.setdefault(code, code.co_code)[frame.f_lasti]
            last, self._last[id(frame)] = self._last.get(id(frame)), number
            if last in _LOOKING:
                self._come(frame, "after")
        return self._step

    def _come(self, frame: FrameType, event: str) -> None:
        caller = frame.f_back.f_code.co_name if frame.f_back else ""
        place = str(frame.f_globals["__name__"]), frame.f_code.co_name, frame.f_lasti, event, caller
        if place in self.seen:
            return
        self.seen[place] = None
        if len(self.seen) - 1 == self._at:
            sys.settrace(None)
            signal.raise_signal(self._number)


def places(case: Case, folder: Path, before: Mapping[str, bytes], count: int, chance: random.Random) -> Iterator[Point]:
    """An interrupt at places spread over all that the main thread comes through, of a script and of the command."""
    for call, number, most in ((in_a_script, signal.SIGINT, count - count // 2), (command, signal.SIGTERM, count // 2)):
        case.prepare(folder)
        found = _counted(case, folder, call)
        for at in sorted(chance.sample(range(len(found)), min(most, len(found)))):
            case.prepare(folder)
            ended = Child(case.arguments(folder), call=partial(_placed, call, at, number), seconds=SECONDS).wait()
            where = f"{call.__name__}, {found[at]}"
            yield judged_stop("place", case, folder, before, where, ended, is_thorough=at % EVERY == 0)


def _counted(case: Case, folder: Path, call: Call) -> list[str]:
    """Return the names of the places that a whole run comes through."""
    ended = Child(case.arguments(folder), call=partial(_placed, call, -1, signal.SIGINT), seconds=10 * SECONDS).wait()
    assert ended.code == 0, ended.said
    return [line.removeprefix(_MARK) for line in ended.said.split("\n") if line.startswith(_MARK)]


def _placed(call: Call, at: int, number: signal.Signals, arguments: Sequence[str]) -> int:
    flushing.FLUSH_BYTES = 2**18  # so that these small files are flushed too
    found = Places(at, number)
    code = found.run(partial(call, arguments))
    if at < 0:
        sys.stdout.write("".join(f"{_MARK}{' '.join(map(str, place))}\n" for place in found.seen))
    return code
