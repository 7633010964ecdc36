"""Interrupts at any moment whatsoever, from outside: of the command, and of a script under Python's own handler.

A child that does not end is a finding: somebody waits for a lock that an interrupted function has left locked.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import lora_core
from tests.faults.children import INTERRUPTED, Child, Ended, command
from tests.faults.operations import Case, contents
from tests.faults.points import Point, judged

SECONDS = 30  # that a child may take: more is for ever
EVERY = 20  # so many trials have the next run tried once
Call = Callable[[Sequence[str]], int]


def stops(case: Case, folder: Path, before: Mapping[str, bytes], count: int, chance: random.Random) -> Iterator[Point]:
    """SIGINT and SIGTERM to the command, and SIGINT to a script, at moments spread over a whole run."""
    lengths: list[float] = []
    for call in (command, in_a_script):
        case.prepare(folder)
        lengths.append(_stopped(case, folder, call, None, signal.SIGINT).seconds)
    for part in range(count):
        number = (signal.SIGINT, signal.SIGTERM, signal.SIGINT)[part % 3]
        call = in_a_script if part % 3 == 2 else command
        case.prepare(folder)
        seconds = lengths[part % 3 // 2] * chance.random() * 1.05
        ended = _stopped(case, folder, call, seconds, number)
        where = f"{number.name} to the {call.__name__} after {seconds:.4f} s"
        yield judged_stop("stop", case, folder, before, where, ended, is_thorough=part % EVERY == 0)


def _stopped(case: Case, folder: Path, call: Call, seconds: float | None, number: signal.Signals) -> Ended:
    child = Child(case.arguments(folder), call=call, seconds=SECONDS)
    if seconds is not None:
        time.sleep(seconds)
        child.signal(number)
    return child.wait()


def judged_stop(
    fault: str, case: Case, folder: Path, before: Mapping[str, bytes], where: str, ended: Ended, *, is_thorough: bool
) -> Point:
    """Return the point; all of it is looked at, and the next run tried, if it is to be thorough or something is odd."""
    if ended.code == -signal.SIGALRM:
        target = "old" if case.overwrites else "new"
        return Point(fault, case.operation, target, where, case.state(folder), ended.code, problem="it hangs")
    if ended.code == -signal.SIGTERM:  # before the work had begun, or when it was done
        ended = Ended(INTERRUPTED, ended.said, ended.seconds)
    state = case.state(folder)
    names = {path.name for path in folder.iterdir()} - {case.out(folder).name}
    is_right = ended.code in (0, INTERRUPTED) and (ended.code == INTERRUPTED or state == "complete")
    if is_thorough or names or not is_right or state == "LOST" or contents(case.inputs) != before:
        return judged(case, folder, before, fault, where, ended)
    return Point(fault, case.operation, "old" if case.overwrites else "new", where, state, ended.code)


def in_a_script(arguments: Sequence[str]) -> int:
    """Do what the command does, as somebody's script would; Python's own handler of SIGINT is in place."""
    operation, *words = arguments
    given = {words[at]: words[at + 1] for at in range(0, len(words) - 1) if words[at].startswith("--")}
    out, overwrite, lora = given["--out"], "--overwrite" in words, given.get("--lora", words[0])
    calls: dict[str, Callable[[], object]] = {
        "merge": lambda: lora_core.merge(given["--base"], [(lora, 0.8)], out, dtype="bf16", overwrite=overwrite),
        "extract": lambda: lora_core.extract(given["--base"], given["--tuned"], out, rank=8, overwrite=overwrite),
        "resize": lambda: lora_core.resize(lora, out, rank=4, overwrite=overwrite),
        "convert": lambda: lora_core.convert(lora, out, dialect="diffusers", base=given["--base"], overwrite=overwrite),
        "combine": lambda: lora_core.combine(
            [(lora, 0.5), (lora, 0.25)], out, rank=8, base=given["--base"], overwrite=overwrite
        ),
    }
    try:
        calls[operation]()
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0
