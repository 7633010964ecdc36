"""Runs the campaigns and prints what was tried and what survived; ends with 1 if anything was lost or went wrong."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from tests.faults.anywhere import places
from tests.faults.campaigns import SmallDisk, cancels, full_disks, kills, size_limits
from tests.faults.children import run
from tests.faults.limits import few_handles, little_memory
from tests.faults.operations import OPERATIONS, Case, arguments, make_inputs
from tests.faults.points import Point
from tests.faults.powercut import power_cuts
from tests.faults.stops import stops

DISK = 128 * 2**20  # bytes of the small disk: the files, and what the writer wants to spare
Campaign = Callable[[Case, Path, "dict[str, bytes]", int, random.Random], Iterator[Point]]
CAMPAIGNS: dict[str, Campaign] = {
    "kill": kills,
    "cancel": cancels,
    "stop": stops,
    "place": places,
    "few handles": few_handles,
    "little memory": little_memory,
    "full disk": full_disks,
    "size limit": size_limits,
    "power cut": power_cuts,
}


def main(words: Sequence[str] | None = None) -> int:
    options = _options(words)
    torch.set_num_threads(1)  # a forked child can't use threads that its parent has begun
    points: list[Point] = []
    skipped: dict[str, str] = {}
    _say(f"{'fault':<14}{'operation':<10}{'target':<7} points  absent   old complete  left  lost  wrong")
    with tempfile.TemporaryDirectory(prefix="lora-core-faults-") as made:
        work = Path(made)
        before = make_inputs(work / "inputs")
        for case in _cases(work, options.operations):
            for fault in options.faults:
                if fault not in skipped:
                    chance = random.Random(f"{options.seed} {fault} {case.operation} {case.overwrites}")
                    some = _tried(fault, case, work, before, options.points, chance, skipped)
                    points += some
                    if some:
                        _say(f"{fault:<14}{case.operation:<10}{some[0].target:<7}{_counts(some)}")
    _tell(points, skipped)
    if options.json:
        data = {"seed": options.seed, "skipped": skipped, "points": [asdict(point) for point in points]}
        options.json.write_text(json.dumps(data, indent=1), "utf-8")
    return 1 if any(point.problem for point in points) or not points else 0


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.faults", description=__doc__)
    parser.add_argument("--points", type=int, default=24, help="of each fault, operation and kind of target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", nargs="+", choices=CAMPAIGNS, default=list(CAMPAIGNS))
    parser.add_argument("--operations", nargs="+", choices=OPERATIONS, default=list(OPERATIONS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every point there")
    return parser.parse_args(words)


def _cases(work: Path, operations: Sequence[str]) -> Iterator[Case]:
    for operation in operations:
        out = work / f"{operation}.safetensors"
        ended = run(arguments(operation, work / "inputs", out))
        if ended.code:
            sys.exit(f"{operation} fails without trouble: {ended.said}")
        for overwrites in (False, True):
            yield Case(operation, overwrites, work / "inputs", out.read_bytes())


def _tried(
    fault: str, case: Case, work: Path, before: dict[str, bytes], count: int, chance: random.Random,
    skipped: dict[str, str],
) -> list[Point]:  # fmt: skip
    campaign = CAMPAIGNS[fault]
    try:
        if fault != "full disk":
            return list(campaign(case, work if fault == "power cut" else work / "results", before, count, chance))
        with SmallDisk(work / "disk", DISK) as disk:
            return list(campaign(case, disk, before, count, chance))
    except PermissionError as error:
        skipped[fault] = str(error)
        return []


def _tell(points: Sequence[Point], skipped: dict[str, str]) -> None:
    _say(f"{'all':<31}{_counts(points)}")
    for fault, why in skipped.items():
        _say(f"{fault}: not tried: {why}")
    _say(f"slowest stop after a cancel: {max((one.stopped_in for one in points), default=0.0):.2f} s")
    for one in points:
        if one.problem:
            _say(f"WRONG: {one.fault}, {one.operation}, {one.target} target, {one.where}: {one.problem}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _counts(some: Sequence[Point]) -> str:
    states = Counter(one.state for one in some)
    left = sum(one.left for one in some)
    wrong = sum(bool(one.problem) for one in some)
    return (
        f"{len(some):>7}{states['absent']:>8}{states['old']:>6}{states['complete']:>9}{left:>6}{states['LOST']:>6}{wrong:>7}"
    )


if __name__ == "__main__":
    sys.exit(main())
