"""Places: which rows of a module of an architecture's own layout a name stands for, and in which order.

A place is a run of the module's output rows, given as fractions of the whole; or some equal pieces of that run, one
after the other: halves that changed places, heads that lie beside each other, chunks that alternate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import gcd
from typing import NamedTuple

Run = tuple[int, int]  # first row, number of rows


class Place(NamedTuple):
    """A module of an architecture's own layout, or some of its output rows."""

    module: str
    begin: int = 0
    end: int = 1
    of: int = 1
    transposed: bool = False
    order: tuple[int, ...] = ()  # numbers of the pieces that are taken; all, as they lie, if empty
    pieces: int = 1  # into which the run is divided

    @property
    def rows(self) -> tuple[int, int, int, tuple[int, ...], int]:
        """Which rows of the module these are, in which order."""
        return self.begin, self.end, self.of, self.order, self.pieces

    def piece(self, begin: int, end: int, of: int) -> Place:
        """Return a part of this place, given as fractions of it."""
        if self.order:
            order, pieces = self._refined(of)
            return self._replace(order=order[len(order) * begin // of : len(order) * end // of], pieces=pieces)._plain()
        length = self.end - self.begin
        return self._replace(
            begin=self.begin * of + begin * length, end=self.begin * of + end * length, of=self.of * of
        )

    def ordered(self, order: Sequence[int], pieces: int) -> Place:
        """Return some of the equal pieces of this place, in another order."""
        if not order:
            return self
        if not self.order:
            return self._replace(order=tuple(order), pieces=pieces)._plain()
        finer, count = self._refined(pieces)
        size = len(finer) // pieces
        taken = tuple(number for piece in order for number in finer[piece * size : (piece + 1) * size])
        return self._replace(order=taken, pieces=count)._plain()

    def inside(self, outer: Place) -> Place:
        """Return this place, which counts in the rows of `outer`, in the rows of the module that `outer` is in."""
        run = outer.piece(self.begin, self.end, self.of).ordered(self.order, self.pieces)
        return run._replace(transposed=self.transposed != outer.transposed)

    def share(self, rows: int) -> int | None:
        """Return how many rows the module has of which this place has `rows`; None if they are not to be divided."""
        parts, whole = (self.end - self.begin) * (len(self.order) or 1), self.of * self.pieces
        return None if rows * whole % parts else rows * whole // parts

    def runs(self, rows: int) -> list[Run] | None:
        """Return the runs of a module of `rows` that make up this place, in their order; None if a row is cut."""
        length = rows * (self.end - self.begin)
        if rows * self.begin % self.of or length % (self.of * self.pieces):
            return None
        first, size = rows * self.begin // self.of, length // self.of // self.pieces
        return list(run_together((first + size * number, size) for number in self.order or (0,)))

    def _refined(self, parts: int) -> tuple[tuple[int, ...], int]:
        """Return the order in pieces so small that it can be divided by `parts`."""
        times = parts // gcd(len(self.order), parts)
        return tuple(piece * times + part for piece in self.order for part in range(times)), self.pieces * times

    def _plain(self) -> Place:
        """Return this place without an order if its pieces follow one another."""
        first, count = self.order[0], len(self.order)
        if self.order != tuple(range(first, first + count)):
            return self
        pieces = self.pieces
        return self._replace(order=(), pieces=1).piece(first, first + count, pieces)


def run_together(runs: Iterator[Run]) -> Iterator[Run]:
    """Yield runs, those as one that follow one another."""
    first, length = next(runs)
    for start, more in runs:
        if start == first + length:
            length += more
        else:
            yield first, length
            first, length = start, more
    yield first, length
