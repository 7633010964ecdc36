"""The campaigns: kills, cancels and full disks, at points spread over a whole run of an operation."""

from __future__ import annotations

import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.faults.children import Child, Ended, die, filling, run
from tests.faults.operations import Case
from tests.faults.points import Point, judged

Bytes = Mapping[str, bytes]
RESERVE = 64 * 2**20  # bytes that the writer wants free beside the file


def spread(chance: random.Random, count: int, whole: Ended) -> list[int]:
    """Return `count` numbers of calls of a whole run: half of them spread over all, half around the naming."""
    near = count // 2
    parts = count - near
    edges = [whole.calls * part // parts for part in range(parts + 1)]
    far = [chance.randrange(start, max(end, start + 1)) for start, end in itertools.pairwise(edges)]
    around = range(max(0, whole.named - 5), min(whole.calls, whole.named + 4))
    return far + sorted(chance.choices(around, k=max(0, near - 1))) + [whole.named][: near and 1]


def kills(case: Case, folder: Path, before: Bytes, count: int, chance: random.Random) -> Iterator[Point]:
    """SIGKILL: half of the points at a call to the system, or in the middle of it; half at any moment, from outside."""
    case.prepare(folder)
    whole = run(case.arguments(folder))
    for at in spread(chance, count - count // 2, whole):
        case.prepare(folder)
        ended = run(case.arguments(folder), at, die)
        yield judged(case, folder, before, "kill", f"call {at}", ended, is_killed=True)
    for part in range(count // 2):
        case.prepare(folder)
        seconds = whole.seconds * (part + chance.random()) / (count // 2)
        child = Child(case.arguments(folder))
        time.sleep(seconds)
        child.signal(signal.SIGKILL)
        yield judged(case, folder, before, "kill", f"{seconds:.3f} s", child.wait(), is_killed=True)


def cancels(case: Case, folder: Path, before: Bytes, count: int, chance: random.Random) -> Iterator[Point]:
    """SIGINT and SIGTERM in turn, at a call to the system, and a second one while the first is dealt with."""
    case.prepare(folder)
    whole = run(case.arguments(folder))
    told = folder.parent / "told"
    for number, at in enumerate(spread(chance, count, whole)):
        case.prepare(folder)
        which = (signal.SIGINT, signal.SIGTERM)[number % 2]
        told.unlink(missing_ok=True)
        ended = run(case.arguments(folder), at, _cancelling(which, told))
        seconds = time.monotonic() - float(told.read_text()) if told.exists() else 0.0
        yield judged(case, folder, before, "cancel", f"{which.name} at call {at}", ended, stopped_in=seconds)


def full_disks(case: Case, disk: Path, before: Bytes, count: int, chance: random.Random) -> Iterator[Point]:
    """A small disk that another program fills at a call to the system, with and without space reserved beforehand."""
    folder, ballast = disk / "results", disk / "ballast"
    case.prepare(folder)
    whole = run(case.arguments(folder))
    for number, at in enumerate(spread(chance, count, whole)):
        case.prepare(folder)
        ended = run(case.arguments(folder), at, filling(ballast), reserves=bool(number % 2))
        ballast.unlink(missing_ok=True)
        yield judged(case, folder, before, "full disk", f"call {at}", ended)
    case.prepare(folder)
    with ballast.open("wb") as file:  # too little from the start
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - RESERVE)
    ended = run(case.arguments(folder))
    ballast.unlink()
    yield judged(case, folder, before, "full disk", "from the start", ended)


def size_limits(case: Case, folder: Path, before: Bytes, count: int, chance: random.Random) -> Iterator[Point]:
    """A limit on the size of a file, with and without space reserved beforehand."""
    for number in range(count):
        case.prepare(folder)
        limit = int(len(case.expected) * (number + chance.random()) / count)
        ended = run(case.arguments(folder), 0, _limiting(limit), reserves=bool(number % 2))
        yield judged(case, folder, before, "size limit", f"{limit} bytes", ended)


class SmallDisk:
    """A file system in memory, of `size` bytes; entering raises PermissionError where it can't be mounted."""

    def __init__(self, at: Path, size: int) -> None:
        self._at, self._size = at, size

    def __enter__(self) -> Path:
        self._at.mkdir(exist_ok=True)
        mount("-t", "tmpfs", "-o", f"size={self._size}", "tmpfs", str(self._at))
        return self._at

    def __exit__(self, *_: object) -> None:
        unmount(self._at)


def mount(*arguments: str) -> None:
    command = shutil.which("mount")
    if os.geteuid() or not command:
        raise PermissionError("mounting needs root and the command mount")
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PermissionError(f"mount: {done.stderr.strip()}")


def unmount(at: Path) -> None:
    subprocess.run(["umount", str(at)], check=True)


def _cancelling(number: signal.Signals, told: Path) -> Callable[[str, Any, tuple[Any, ...]], None]:
    def cancel(name: str, call: Any, arguments: tuple[Any, ...]) -> None:
        told.write_text(str(time.monotonic()))
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)

    return cancel


def _limiting(limit: int) -> Callable[[str, Any, tuple[Any, ...]], None]:
    def limit_size(name: str, call: Any, arguments: tuple[Any, ...]) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return limit_size
