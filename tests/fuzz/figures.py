"""What a fuzzer's log tells of its run."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figures:
    executions: int = 0
    seconds: float = 0.0
    covered: int = 0  # places in our code that inputs reached


def read_figures(log: str) -> Figures:
    """Return the last numbers that libFuzzer printed."""
    done = re.findall(r"^Done (\d+) runs in (\d+) second", log, re.MULTILINE)
    steps = re.findall(r"^#(\d+)\t", log, re.MULTILINE)
    covered = re.findall(r"\bcov: (\d+)", log)
    executions = int(done[-1][0]) if done else int(steps[-1]) if steps else 0
    return Figures(executions, float(done[-1][1]) if done else 0.0, int(covered[-1]) if covered else 0)
