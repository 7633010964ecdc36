"""Cases measured in turn, so that what else the machine does meets all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run cost."""

    wall: float  # seconds
    cpu: float  # seconds, user and system, of all threads
    peak_rss: int = 0  # bytes; 0: not known


Samples = Sequence[Sample]


def in_turn(rounds: int, cases: Mapping[str, Callable[[], Sample]]) -> dict[str, list[Sample]]:
    """Run every case once in each round, each round beginning one case later than the one before."""
    samples: dict[str, list[Sample]] = {name: [] for name in cases}
    names = list(cases)
    for first in range(rounds):
        for place in range(len(names)):
            name = names[(first + place) % len(names)]
            samples[name].append(cases[name]())
    return samples


def timed(function: Callable[[], object]) -> Sample:
    """Run `function` in this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return Sample(time.perf_counter() - wall, time.process_time() - cpu)


def wall(samples: Samples) -> float:
    return statistics.median(sample.wall for sample in samples)


def least_wall(samples: Samples) -> float:
    return min(sample.wall for sample in samples)


def cpu(samples: Samples) -> float:
    return statistics.median(sample.cpu for sample in samples)


def peak_rss(samples: Samples) -> float:
    return statistics.median(sample.peak_rss for sample in samples)


def wall_ratios(ours: Samples, theirs: Samples) -> tuple[float, float]:
    """Return (median, least) over the rounds of our wall time over theirs in the same round."""
    ratios = [one.wall / other.wall for one, other in zip(ours, theirs, strict=True)]
    return statistics.median(ratios), min(ratios)
