"""What a benchmark found: single figures beside their goals, and tables of everything that was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.turns import Samples, cpu, least_wall, peak_rss, wall

# A peer that is not there or behaves differently, a full disk, an operation that refuses (LoraError is a ValueError)
EXPECTED = (RuntimeError, OSError, ValueError, ImportError, AttributeError, LookupError)


@dataclass(frozen=True, slots=True)
class Figure:
    """One number, and the goal for it if there is one."""

    what: str
    value: float
    unit: str = "×"
    goal: float | None = None
    at_most: bool = True  # the goal is an upper limit, else a lower one
    best: float | None = None  # the best of the rounds, where the value is the median of their ratios
    note: str = ""

    @property
    def is_reached(self) -> bool:
        if self.goal is None:
            return True
        return self.value <= self.goal if self.at_most else self.value >= self.goal

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "is_reached": self.is_reached}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text or numbers below a title."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""


def table_of(title: str, samples: Mapping[str, Samples], note: str = "") -> Table:
    """Return a line for each case: how often it ran, and what it cost."""
    rows = [
        [name, len(several), wall(several), least_wall(several), cpu(several), peak_rss(several) / 1e9 or "–"]
        for name, several in samples.items()
    ]
    return Table(title, ("case", "runs", "median s", "least s", "CPU s", "peak memory, GB"), rows, note)


@dataclass(slots=True)
class Findings:
    """What a subject's `measure` has found so far, and what it could not measure, and why."""

    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Keep the rest of a subject if one part of it fails."""
        try:
            yield
        except EXPECTED as error:
            self.missing.append(f"{name}: {type(error).__name__}: {error}")

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {
            "figures": [figure.as_dict() for figure in self.figures],
            "tables": [asdict(table) for table in self.tables],
            "missing": self.missing,
        }


def number(value: float) -> str:
    """Return `value` with three digits that count, without an exponent where people read none."""
    if value == 0:
        return "0"
    if abs(value) < 1e-3 or abs(value) >= 1e6:
        return f"{value:.1e}"
    if 0 < abs(value - 1) < 0.01:  # errors over the least possible
        return f"{value:.6f}".rstrip("0").rstrip(".")
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
