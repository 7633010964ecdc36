"""Limits of the system that are reached in the midst of work: memory and open files, with a little room or none."""

from __future__ import annotations

import os
import random
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.faults.children import Child, command
from tests.faults.operations import Case
from tests.faults.points import Point, judged

ROOM = 48 * 2**20  # bytes: more than the small models need, so that some runs succeed
HANDLES = 12  # likewise


def few_handles(
    case: Case, folder: Path, before: Mapping[str, bytes], count: int, chance: random.Random
) -> Iterator[Point]:
    """So many open files and no more."""
    for number in range(count):
        yield _limited(case, folder, before, "few handles", number * HANDLES // count, _allow_handles)


def little_memory(
    case: Case, folder: Path, before: Mapping[str, bytes], count: int, chance: random.Random
) -> Iterator[Point]:
    """So many bytes of address space and no more; a thread takes some too."""
    for number in range(count):
        yield _limited(
            case, folder, before, "little memory", int(ROOM * (number + chance.random()) / count), _allow_bytes
        )


def _limited(
    case: Case, folder: Path, before: Mapping[str, bytes], fault: str, room: int, allow: Callable[[int], None]
) -> Point:
    case.prepare(folder)
    ended = Child(case.arguments(folder), call=partial(_run, allow, room)).wait()
    point = judged(case, folder, before, fault, f"room for {room}", ended)
    if not ended.code or _is_clear(ended.said):
        return point
    return replace(point, problem=f"{point.problem}; no clear error: {ended.said}")


def _is_clear(said: str) -> bool:
    """Tell whether it is one error of ours; Python itself may tell before it what it could not close without memory."""
    lines = said.strip().split("\n")
    ours = next((at for at, line in enumerate(lines) if line.startswith("lora-core: ")), len(lines))
    return ours < len(lines) < 24 and (ours == 0 or lines[0].startswith("Exception ignored in"))


def _run(allow: Callable[[int], None], room: int, arguments: Sequence[str]) -> int:
    allow(room)
    return command(arguments)


def _allow_handles(count: int) -> None:
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + count, hard))


def _allow_bytes(count: int) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + count, hard))
