"""One layer after the other: its change is read, decomposed a few ahead, and handed on; memory holds a few of them."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Literal

from ...algebra.factored import Factors
from ...algebra.rounding import round_to
from ...algebra.svd import Svd, svd_of_dense, svd_of_product
from ...errors import LoraError
from ...lazytorch import torch
from ...naming.dialects import WRITINGS
from ...options.shared import WrittenDialect
from ...parallel.ahead import ahead
from ...parallel.progress import OnStep
from ...parallel.threads import processors, watched
from ...writing.layers import Truncation, WrittenLayer, matrix_of
from ...writing.names import lora_suffixes
from .comparison import Comparison, WeightChange, sum_of_squares
from .dora import Directions, DoraErrors, directions_of, magnitude_part, or_nothing
from .names import NamedWeight
from .noise import Noise

Kind = Literal["lora", "dora"]
ROOM = 6 * 2**20  # numbers for each processor: how much of the weights is in hand while more is read
_CANCELLED = 1e-9  # of its terms' sizes: a sum that is no larger is what rounding leaves of zero


@dataclass(frozen=True, slots=True)
class _Found:
    """What a layer's change was found to be."""

    job: NamedWeight
    square: float  # |dW|_F²
    whole: torch.Tensor | None = None  # a matrix, where it is stored so, or a DoRA's error is taken from it
    layer: WrittenLayer | None = None
    svd: Svd | None = None
    weight_square: float | None = None
    directions: Directions | None = None


class _ExtractionCancelledError(Exception):
    """The work was cancelled; seen by nobody, because the reason is raised instead."""


@dataclass(slots=True)
class Extraction:
    """Goes through the layers of a comparison, and keeps count of what has no place in the LoRA."""

    compared: Comparison
    dialect: WrittenDialect
    kind: Kind
    made: Truncation
    on_step: OnStep | None = None
    unchanged: int = 0
    left_out: list[str] = field(default_factory=list[str])  # vectors that the dialect has no way to hold
    noise: Noise = field(default_factory=Noise)
    errors: DoraErrors = field(default_factory=DoraErrors)
    full: int = 0  # layers that have no more singular values than they get
    _done: int = 0
    _total: int = 0
    _is_cancelled: bool = False

    def run(self, jobs: Sequence[NamedWeight]) -> None:
        """Take all layers; the first that holds NaN or infinity raises LoraError."""
        self._total = sum(job.size for job in jobs)
        ask, room = self._ask if self.on_step else None, ROOM * processors()
        changes = self._changes(jobs)
        with closing(ahead(self._find, changes, size=lambda item: item[0].size, room=room, ask=ask)) as layers:
            for job, found in zip(jobs, layers, strict=True):
                self._tell()
                if found is None:
                    self.unchanged += 1
                else:
                    self._take(found)
                self._done += job.size
        self._tell()

    def _changes(self, jobs: Sequence[NamedWeight]) -> Iterator[tuple[NamedWeight, WeightChange | None]]:
        """Yield what changed in each layer; the pieces of a fused weight follow one another."""
        key, change = "", None
        for job in jobs:
            if job.target.key != key:
                key, change = job.target.key, None  # before the next is read, so that only one is in memory here
                change = self.compared.change(key, with_weight=self._needs_weight)
            yield job, None if change is None else change.taken(job.target)

    @property
    def _needs_weight(self) -> bool:
        return self.kind == "dora" or self.made.rule.needs_weight

    def _tell(self) -> None:
        if self.on_step:
            self.on_step(self._done, self._total)

    def _ask(self) -> None:
        try:
            self._tell()
        except BaseException:
            self._is_cancelled = True
            raise

    def _check(self) -> None:
        if self._is_cancelled:
            raise _ExtractionCancelledError

    def _find(self, item: tuple[NamedWeight, WeightChange | None]) -> _Found | None:
        """Decompose a layer, on any thread; None if nothing changed."""
        job, found = item
        if found is None:
            return None
        change = found.change
        if change.factors and job.is_matrix and self.kind == "lora":
            return self._find_product(job, change.factors, found.weight)
        whole = change.dense()
        square = sum_of_squares(whole)
        if not math.isfinite(square):
            raise LoraError(
                f"{self.compared.name}: {job.target.key}: the difference to {self.compared.before.name} holds NaN or "
                "infinity."
            )
        if square == 0:
            return None
        if not job.is_matrix:
            return _Found(job, square, whole)
        if self.kind == "dora":
            assert found.weight is not None
            directions = directions_of(found.weight, whole)
            layer = self._layer(job, directions.weight)
            svd = or_nothing(self._svd(job, directions.delta, self.made.limit(layer)))
            return _Found(job, square, whole, layer, svd, directions=directions)
        layer = self._layer(job, found.weight)
        svd = self._svd(job, whole, self.made.limit(layer))
        return _Found(job, square, layer=layer, svd=svd, weight_square=found.weight_square or 0.0)

    def _find_product(self, job: NamedWeight, factors: Factors, weight: torch.Tensor | None) -> _Found | None:
        layer = self._layer(job, weight)
        svd = svd_of_product(*factors, self.made.limit(layer))
        terms = sum_of_squares(factors[0]) * sum_of_squares(factors[1])
        return None if svd.total <= _CANCELLED**2 * terms else _Found(job, svd.total, layer=layer, svd=svd)

    def _take(self, found: _Found) -> None:
        """Add a layer to the LoRA."""
        if found.layer is None or found.svd is None:
            assert found.whole is not None
            self._add_whole(found.job, found.whole.reshape(found.job.target.shape), found.square)
        elif found.directions is not None:
            self._add_dora(found, found.layer, found.svd, found.directions)
        else:
            if found.weight_square is not None:
                self.noise.add(found.svd, found.weight_square)
            self.full += self._is_full(found.layer)
            self.made.add(found.layer, found.svd)

    def _is_full(self, layer: WrittenLayer) -> bool:
        return self.made.limit(layer) == min(matrix_of(layer.shape)) < self.made.rule.max_rank

    def _add_dora(self, found: _Found, layer: WrittenLayer, svd: Svd, directions: Directions) -> None:
        job, whole = found.job, found.whole
        assert whole is not None
        ending, magnitude = magnitude_part(directions.magnitude, len(job.target.shape), WRITINGS[self.dialect])
        self.full += self._is_full(layer)
        rank = self.made.add(layer, svd, {layer.name + ending: magnitude})
        if rank is None:  # a budget decides later
            return
        error = directions.relative_error(*svd.factors(rank), size=math.sqrt(found.square))
        self.made.report.layers[-1].update(norm=math.sqrt(found.square), error=error)
        plain = watched(lambda: self._svd(job, whole, rank), self._tell if self.on_step else None)
        self.errors.dora += error**2 * found.square
        self.errors.lora += found.square - float(plain.values[:rank].square().sum())
        self.errors.change += found.square

    def _add_whole(self, job: NamedWeight, change: torch.Tensor, square: float) -> None:
        if not WRITINGS[self.dialect].has_alpha:
            self.left_out.append(f"{job.name}.{job.written.param}")
            return
        ending = ".diff" if job.written.param == "weight" else ".diff_b"
        rounded, beyond = (change, 0) if self.made.dtype is None else round_to(change, self.made.dtype)
        self.made.clamped += beyond
        self.made.keep(job.name + ending, rounded)
        said = {"rank": None, "energy": 1.0, "norm": math.sqrt(square)}
        self.made.report.layers.append({"name": job.name, "block": job.block, "module": job.written.module, **said})

    def _layer(self, job: NamedWeight, weight: torch.Tensor | None) -> WrittenLayer:
        writing = WRITINGS[self.dialect]
        return WrittenLayer(
            job.name,
            job.written.module,
            job.block,
            job.target.shape,
            lora_suffixes(writing, job.name),
            writing.has_alpha,
            weight_norm=None if weight is None else math.sqrt(sum_of_squares(weight)),
        )

    def _svd(self, job: NamedWeight, matrix: torch.Tensor, limit: int) -> Svd:
        rule = self.made.rule
        energy = {"energy": rule.threshold, "error": 1.0 - rule.threshold**2}.get(rule.by, 0.0)
        return svd_of_dense(matrix, limit, energy=energy, seed=_seed(job), on_step=self._check)


def _seed(job: NamedWeight) -> int:
    return zlib.crc32(f"{job.written.module}:{job.target.start or 0}".encode())
