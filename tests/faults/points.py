"""One point of a campaign: a run that gets into trouble, what it leaves, and whether the next run succeeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lora_core.cli.leftovers import leftovers
from tests.faults.children import Ended, run
from tests.faults.operations import Case, arguments, contents


@dataclass(frozen=True, slots=True)
class Point:
    """What was tried and what came of it."""

    fault: str
    operation: str
    target: str  # new, or old: a file was there before
    where: str  # at which moment
    state: str  # of the target afterwards: absent, old, complete, LOST
    code: int
    left: int = 0  # files that a kill left, told and removed
    stopped_in: float = 0.0  # seconds from a cancel to the end
    problem: str = ""


def judged(
    case: Case, folder: Path, before: Mapping[str, bytes], fault: str, where: str, ended: Ended, *,
    is_killed: bool = False, stopped_in: float = 0.0,
) -> Point:  # fmt: skip
    """Return the point, after a look at everything and another run without trouble."""
    state = case.state(folder)
    problems = [_wrong_end(ended, state, is_killed)] if state != "LOST" else [f"the target is lost: {ended.said}"]
    names = {path.name for path in folder.iterdir()} - {case.out(folder).name}
    if names and not is_killed:
        problems.append(f"left behind: {sorted(names)}")
    left = leftovers(folder, remove=True)
    if {str(item["name"]) for item in left.items} != names or any(item["state"] != "removed" for item in left.items):
        problems.append(f"not told and removed: {sorted(names)} {left.items}")
    problems.append(_wrong_again(case, folder))
    if contents(case.inputs) != before:
        problems.append("an input has changed")
    target = "old" if case.overwrites else "new"
    problem = "; ".join(filter(None, problems))
    return Point(fault, case.operation, target, where, state, ended.code, len(names), round(stopped_in, 3), problem)


def _wrong_end(ended: Ended, state: str, is_killed: bool) -> str:
    """Return what is wrong with how a run ended: it says that it is done if and only if the file is complete."""
    if is_killed or (ended.code == 0) == (state == "complete"):
        return "" if ended.code in (0, 1, 130) or is_killed else f"exit code {ended.code}: {ended.said}"
    if ended.code == 130 and state == "complete":  # the signal came between the naming and the end
        return ""
    return f"exit code {ended.code}, but the target is {state}: {ended.said}"


def _wrong_again(case: Case, folder: Path) -> str:
    """Run once more, without trouble, and return what is wrong with it."""
    again = run(arguments(case.operation, case.inputs, case.out(folder), overwrite=True))
    if again.code:
        return f"the next run fails: {again.said}"
    return "" if case.state(folder) == "complete" else "the next run writes another file"
