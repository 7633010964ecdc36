"""Warnings where a change looks like the rounding of a number format, and not like training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ...algebra.svd import Svd
from .comparison import ModelSource

# |Q(W) - W| / |W| of normally distributed weights, measured; of the K formats from their bits
_ROUNDING = {
    "float8_e4m3fn": 0.026, "float8_e5m2": 0.053, "fp8 without scales": 0.03, "mxfp8": 0.029, "nvfp4": 0.094,
    "int8_tensorwise": 0.011, "MXFP4": 0.11, "Q8_0": 0.0054, "Q5_0": 0.043, "Q5_1": 0.038, "Q4_0": 0.086, "Q4_1": 0.078,
    "Q6_K": 0.018, "Q5_K": 0.036, "Q4_K": 0.072, "Q3_K": 0.14, "Q2_K": 0.28,
}  # fmt: skip
# bf16 rounds a weight by 0.0017 of its size and fp16 by 0.0002: halved and doubled for weights that are not normal
_PLAIN_ROUNDING = 2.0**-13, 2.0**-8
_FLAT = 1.5  # times sigma1 of white noise of the same size: rounding errors are about as large everywhere
_MOST = 0.8  # share of the change that must look so
_NOTABLE = 0.5  # of the change: more than that may be rounding


@dataclass(slots=True)
class Noise:
    """What the layers look like, added up."""

    weights: float = 0.0  # sum |W|²
    changes: float = 0.0  # sum |dW|², of the same layers
    flat: float = 0.0  # of it, in layers whose singular values are those of white noise

    def add(self, found: Svd, weight_square: float) -> None:
        rows, columns = found.left.shape[0], found.right.shape[1]
        self.weights += weight_square
        self.changes += found.total
        # sigma1 of m x n independent numbers of variance s² is about s · (sqrt(m) + sqrt(n))
        edge = math.sqrt(found.total / (rows * columns)) * (math.sqrt(rows) + math.sqrt(columns))
        if min(rows, columns) >= 32 and float(found.values[0]) <= _FLAT * edge:
            self.flat += found.total

    @property
    def relative_change(self) -> float:
        return math.sqrt(self.changes / self.weights) if self.weights else 0.0

    def warnings(self, before: ModelSource, after: ModelSource) -> Iterator[str]:
        """Yield what a user should know before trusting the LoRA."""
        yield from self._of_codes(before, after)
        low, high = _PLAIN_ROUNDING
        if low < self.relative_change < high and self.flat > _MOST * self.changes:
            yield (
                f"{after.name}: looks like rounding noise: it differs from {before.name} by "
                f"{self.relative_change:.2%} of the weights, about as much in every direction, as the same model in "
                "another number format does; then the LoRA holds nothing that was learned."
            )

    def _of_codes(self, before: ModelSource, after: ModelSource) -> Iterator[str]:
        for one, other in ((before, after), (after, before)):
            for coding, count in sorted((one.codings - other.codings).items()):
                yield (
                    f"{one.name}: {count} weights are stored as {coding} and not so in {other.name}: "
                    f"the rounding of that format is part of the difference, and of the LoRA{self._share(coding)}."
                )

    def _share(self, coding: str) -> str:
        expected = _ROUNDING.get(coding)
        if expected is None or not self.weights:
            return ""
        text = f"; it is about {expected:.1%} of a weight, and the whole difference is {self.relative_change:.1%}"
        if expected < _NOTABLE * self.relative_change:
            return text
        return text + ", so most of the LoRA may be rounding: use the fp16 or bf16 version of the model"
