"""One layer after the other: its change is read, decomposed and handed on, and nothing of it stays in memory."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..errors import LoraError
from ..files.tensorfile import OnStep
from ..lazytorch import torch
from ..linalg import Svd, svd_of_dense, svd_of_product
from ..rounding import round_to
from ..truncation import Layer, Truncation
from ..watched import watched
from ..writing import WRITINGS, WrittenDialect, suffix
from .dora import directions_of, magnitude_part, or_nothing
from .names import Job
from .noise import Noise
from .sources import Change, Comparison, Factors, sum_of_squares

Kind = Literal["lora", "dora"]
_CANCELLED = 1e-9  # of its terms' sizes: a sum that is no larger is what rounding leaves of zero


@dataclass(slots=True)
class Errors:
    """Σ‖W' − T‖² of the DoRA, and of the best LoRAs of the same ranks, and Σ‖ΔW‖²."""

    dora: float = 0.0
    lora: float = 0.0
    change: float = 0.0

    def note(self) -> str:
        dora, lora = (math.sqrt(max(0.0, value) / self.change) for value in (self.dora, self.lora))
        return f"DoRA: relative error {dora:.2%}; LoRA of the same ranks: {lora:.2%}"


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
    errors: Errors = field(default_factory=Errors)
    full: int = 0  # layers that have no more singular values than they get
    _done: int = 0
    _total: int = 0

    def run(self, jobs: Sequence[Job]) -> None:
        """Take all layers; the first that holds NaN or infinity raises LoraError."""
        self._total = sum(job.size for job in jobs)
        key, change = "", None
        for job in jobs:
            self._tell()
            if job.target.key != key:  # the pieces of a fused weight follow one another
                key = job.target.key
                change = None  # before the next is read, so that only one is in memory
                change = self.compared.change(key, with_weight=self._needs_weight)
            if change is None or not self._add(job, change.taken(job.target)):
                self.unchanged += 1
            self._done += job.size
        self._tell()

    @property
    def _needs_weight(self) -> bool:
        return self.kind == "dora" or self.made.rule.by == "relative"

    def _tell(self) -> None:
        if self.on_step:
            self.on_step(self._done, self._total)

    def _add(self, job: Job, change: Change) -> bool:
        """Take a layer; return whether anything changed."""
        if change.factors is not None and not (job.is_matrix and self.kind == "lora"):
            change = change.dense(job.target.shape)
        if change.whole is None:
            assert change.factors is not None
            return self._add_factors(job, change.factors, change.weight)
        square = sum_of_squares(change.whole)
        if not math.isfinite(square):
            raise LoraError(
                f"{self.compared.name}: {job.target.key}: the difference to {self.compared.before.name} holds NaN or "
                "infinity."
            )
        if square == 0:
            return False
        if not job.is_matrix:
            self._add_whole(job, change.whole, square)
        elif self.kind == "dora":
            self._add_dora(job, change, square)
        else:
            layer = self._layer(job, None if change.weight is None else sum_of_squares(change.weight))
            found = self._svd(job, layer, change.whole.flatten(1))
            self.noise.add(found, change.weight_square or 0.0)
            self.made.add(layer, found)
        return True

    def _add_factors(self, job: Job, factors: Factors, weight: torch.Tensor | None) -> bool:
        layer = self._layer(job, None if weight is None else sum_of_squares(weight))
        found = self._watched(lambda: svd_of_product(*factors, self.made.limit(layer)))
        terms = sum_of_squares(factors[0]) * sum_of_squares(factors[1])
        if found.total <= _CANCELLED**2 * terms:
            return False
        self.made.add(layer, found)
        return True

    def _add_dora(self, job: Job, change: Change, square: float) -> None:
        whole = change.whole
        assert whole is not None
        directions = directions_of(change)
        layer = self._layer(job, sum_of_squares(directions.weight))
        found = or_nothing(self._svd(job, layer, directions.delta))
        ending, magnitude = magnitude_part(directions.magnitude, len(job.target.shape), WRITINGS[self.dialect])
        rank = self.made.add(layer, found, {layer.name + ending: magnitude})
        if rank is None:  # a budget decides later
            return
        error = directions.relative_error(*found.factors(rank), size=math.sqrt(square))
        self.made.report.layers[-1].update(norm=math.sqrt(square), error=error)
        plain = self._watched(lambda: svd_of_dense(whole.flatten(1), rank, seed=_seed(job)))
        self.errors.dora += error**2 * square
        self.errors.lora += square - float(plain.values[:rank].square().sum())
        self.errors.change += square

    def _add_whole(self, job: Job, change: torch.Tensor, square: float) -> None:
        if not WRITINGS[self.dialect].has_alpha:
            self.left_out.append(f"{job.name}.{job.written.param}")
            return
        ending = ".diff" if job.written.param == "weight" else ".diff_b"
        rounded, beyond = (change, 0) if self.made.dtype is None else round_to(change, self.made.dtype)
        self.made.clamped += beyond
        self.made.keep(job.name + ending, rounded)
        said = {"rank": None, "energy": 1.0, "norm": math.sqrt(square)}
        self.made.report.layers.append({"name": job.name, "block": job.block, "module": job.written.module, **said})

    def _layer(self, job: Job, weight_square: float | None) -> Layer:
        writing = WRITINGS[self.dialect]
        return Layer(
            job.name,
            job.written.module,
            job.block,
            job.target.shape,
            (suffix(writing, "lora", "up") or "", suffix(writing, "lora", "down") or ""),
            writing.has_alpha,
            weight_norm=None if weight_square is None else math.sqrt(weight_square),
        )

    def _svd(self, job: Job, layer: Layer, matrix: torch.Tensor) -> Svd:
        rule, limit = self.made.rule, self.made.limit(layer)
        self.full += limit == min(matrix.shape) < rule.max_rank
        energy = {"energy": rule.threshold, "error": 1.0 - rule.threshold**2}.get(rule.by, 0.0)
        return self._watched(lambda: svd_of_dense(matrix, limit, energy=energy, seed=_seed(job)))

    def _watched(self, compute: Callable[[], Svd]) -> Svd:
        return watched(compute, self._tell if self.on_step else None)


def _seed(job: Job) -> int:
    return zlib.crc32(f"{job.written.module}:{job.target.start or 0}".encode())
