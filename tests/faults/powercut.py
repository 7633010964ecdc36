"""Power cuts: a file system in an image, and a copy of the image at some moment, with only what had reached the disk.

What a program has written lies in memory until it is flushed, so the copy lacks it. It is mounted like a disk after a
restart: the file system replays its journal, and then the target must be absent, old or complete.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.faults.campaigns import Bytes, mount, spread, unmount
from tests.faults.children import Ended, die, run
from tests.faults.operations import Case, contents
from tests.faults.points import Point

SIZE = 192 * 2**20  # bytes of the image; it takes no more room than what is written to it


def power_cuts(case: Case, work: Path, before: Bytes, count: int, chance: random.Random) -> Iterator[Point]:
    """Cuts at calls to the system, and one after the run has said that it is done."""
    image, copy, at, there = (work / name for name in ("disk.img", "copy.img", "disk", "after"))
    folder = work / "counted"
    case.prepare(folder)
    for number in [*spread(chance, count, run(case.arguments(folder))), -1]:
        make_image(image, at)
        try:
            folder = at / "results"
            case.prepare(folder)
            os.sync()
            ended = run(case.arguments(folder), number, _copying(image, copy))
            if number < 0:
                copy_image(image, copy)
        finally:
            unmount(at)
        yield _judged(case, copy, there, before, f"call {number}" if number >= 0 else "after the end", ended)


def make_image(image: Path, at: Path) -> None:
    """Make an empty file system and mount it; raises PermissionError where that can't be done."""
    maker = shutil.which("mkfs.ext4")
    if os.geteuid() or not maker:
        raise PermissionError("mounting an image needs root and mkfs.ext4")
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run([maker, "-q", "-E", "lazy_itable_init=0,nodiscard", "-J", "size=4", str(image)], check=True)
    at.mkdir(exist_ok=True)
    mount("-o", "loop", str(image), str(at))


def copy_image(image: Path, copy: Path) -> None:
    subprocess.run(["cp", "--sparse=always", str(image), str(copy)], check=True)


def _copying(image: Path, copy: Path) -> Callable[[str, Any, tuple[Any, ...]], None]:
    def cut(name: str, call: Any, arguments: tuple[Any, ...]) -> None:
        copy_image(image, copy)
        die("", call, arguments)

    return cut


def _judged(case: Case, copy: Path, there: Path, before: Bytes, where: str, ended: Ended) -> Point:
    there.mkdir(exist_ok=True)
    mount("-o", "loop", str(copy), str(there))
    try:
        folder = there / "results"
        state = case.state(folder) if folder.is_dir() else "LOST"
        left = len(list(folder.glob(".*"))) if folder.is_dir() else 0
    finally:
        unmount(there)
    problem = "the target is lost" if state == "LOST" else ""
    if ended.code == 0 and state != "complete":
        problem = f"the run said that it was done, but after the cut the target is {state}"
    if contents(case.inputs) != before:
        problem = "an input has changed"
    target = "old" if case.overwrites else "new"
    return Point("power cut", case.operation, target, where, state, ended.code, left, problem=problem)
