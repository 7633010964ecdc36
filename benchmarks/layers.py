"""Operations on single layers: one BLAS thread, CPU seconds, ours and the peers' in turn, over every shape of a model.

A shape that a model has many times is measured once and counted as often as it is there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from benchmarks.turns import cpu, in_turn, timed
from tests.manifests import Shape

Matrix = tuple[int, int]
Cases = Mapping[str, Callable[[], object]]


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def counted(shapes: Iterable[Shape]) -> dict[Matrix, int]:
    """Return {(rows, columns): how often}, kernels flattened, smallest first."""
    found = Counter((shape[0], math.prod(shape[1:])) for shape in shapes)
    return dict(sorted(found.items(), key=lambda item: math.prod(item[0])))


@dataclass(slots=True)
class Costs:
    """CPU seconds of each case on each shape."""

    counts: Mapping[Matrix, int]
    seconds: dict[Matrix, dict[str, float]]

    def total(self, case: str) -> float:
        """Return the seconds for all layers of the model."""
        return sum(self.seconds[shape][case] * count for shape, count in self.counts.items())

    def rows(self) -> list[list[object]]:
        """Return lines of a table: shape, count, the seconds of each case, and all of them together."""
        cases = next(iter(self.seconds.values()))
        lines = [[f"{m}×{n}", self.counts[m, n], *self.seconds[m, n].values()] for m, n in self.counts]
        return [*lines, ["all", sum(self.counts.values()), *(self.total(case) for case in cases)]]


def measure_layers(
    counts: Mapping[Matrix, int], make: Callable[[Matrix], tuple[Cases, Cases]], rounds: int, slow_rounds: int
) -> Costs:
    """Run the cases that `make` returns for a shape, the quick ones `rounds` times and the slow ones `slow_rounds`."""
    seconds: dict[Matrix, dict[str, float]] = {}
    with one_thread():
        for shape in counts:
            quick, slow = make(shape)
            once = next(iter(quick.values()))
            once()  # what is set up at the first call is no part of any layer's cost
            samples = in_turn(slow_rounds, {name: _sampled(case) for name, case in slow.items()})
            samples |= in_turn(rounds, {name: _sampled(case) for name, case in quick.items()})
            seconds[shape] = {name: cpu(samples[name]) for name in (*quick, *slow)}
    return Costs(counts, seconds)


def _sampled(case: Callable[[], object]) -> Callable[[], object]:
    return lambda: timed(case)


def sloped(rows: int, columns: int, rank: int = 0, seed: int = 0) -> torch.Tensor:
    """Return a matrix whose singular values fall about as i^-1/2, up to `rank` of them, or all that it can have."""
    up, down = factors(rows, columns, rank or min(rows, columns), seed)
    return up @ down


def factors(rows: int, columns: int, rank: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (up, down) whose product falls so."""
    generator = torch.Generator().manual_seed(seed)
    slope = torch.arange(1, rank + 1, dtype=torch.float32) ** -0.5
    up = torch.randn(rows, rank, generator=generator) * slope
    return up / math.sqrt(rows), torch.randn(rank, columns, generator=generator) / math.sqrt(columns)


def error_over_optimum(exact: torch.Tensor, squares: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> float:
    """Return ‖A − up·down‖_F over the least that the rank allows, from A and its σ² in fp64."""
    least = float(squares[up.shape[1] :].sum()) ** 0.5
    return float(torch.linalg.vector_norm(exact - up.double() @ down.double())) / least


def squared_values(exact: torch.Tensor) -> torch.Tensor:
    """Return the σ² of a matrix in fp64, largest first."""
    return torch.linalg.svdvals(exact).square()
