"""The layers of a LoRA that is being made: each gets its rank, its tensors and its line in the report.

Extract, Resize and Combine find the singular values of one layer after the other and add them here. A rule decides
at once; a budget decides when all layers are known, and until then their factors wait on disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .arch.base import Shape
from .errors import LoraError
from .files.scratch import Scratch
from .lazytorch import torch
from .linalg import Svd
from .ranks import RankRule, Spectrum, spread
from .report import Report
from .rounding import round_to

CURVE = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)  # ranks at which the report tells the energy


@dataclass(frozen=True, slots=True)
class Layer:
    """A name to write, and what is known of it besides its numbers."""

    name: str  # as it is written, dialect prefix included
    module: str
    block: str
    shape: Shape  # of the weight
    suffixes: tuple[str, str]  # of up and down
    has_alpha: bool = True
    kept_bytes: int = 0  # of tensors that belong to the layer and are stored whatever its rank
    weight_norm: float | None = None  # ‖W‖_F
    was: str = ""  # the kinds that it was made of


@dataclass(slots=True)
class Truncation:
    """Collects layers; `finish` returns what to write."""

    rule: RankRule
    conv_rank: int  # limit for kernels above 1x1; 0: as the other layers
    dtype: torch.dtype | None  # of the factors; None keeps fp32
    tensors: Scratch
    report: Report
    clamp: float = 1.0  # quantile at which kohya's scripts cut both factors; 1: not at all
    clamped: int = 0  # values beyond the range of `dtype`
    _waiting: list[tuple[Layer, Spectrum, RankRule]] = field(default_factory=list)
    _kept_bytes: int = 0

    def limit(self, layer: Layer) -> int:
        """Return the highest rank that a layer can get: how many singular values to find."""
        rule = self._rule(layer)
        return min(rule.max_rank, *_matrix(layer.shape)) if rule.by != "sum" else min(_matrix(layer.shape))

    def add(self, layer: Layer, svd: Svd) -> None:
        """Take a layer's singular values; those of a layer of zeros are refused by callers beforehand."""
        rule = self._rule(layer)
        spectrum = Spectrum(svd.values, svd.total, _matrix(layer.shape), layer.weight_norm)
        if rule.is_budget:
            for suffix, factor in zip(layer.suffixes, svd.factors(len(svd.values)), strict=True):
                self.tensors.put(layer.name + suffix, factor)
            self._waiting.append((layer, spectrum, rule))
        else:
            rank = rule.rank_of(spectrum)
            self._put(layer, spectrum, svd.factors(rank), svd.excess)

    def keep(self, name: str, tensor: torch.Tensor) -> None:
        """Take a tensor that is stored as it is."""
        self.tensors.put(name, tensor)
        self._kept_bytes += tensor.nbytes

    def finish(self) -> Mapping[str, torch.Tensor]:
        """Decide what waits, and return all tensors; raises LoraError if a budget leaves nothing."""
        if self._waiting:
            size = torch.empty(0, dtype=self.dtype or torch.float32).element_size()
            ranks = spread(self.rule, [spectrum for _, spectrum, _ in self._waiting], size, self._kept_bytes)
            if not any(ranks):
                raise LoraError(
                    f"threshold: {self.rule.by} {self.rule.threshold:g} leaves no layer any rank; raise it."
                )
            for (layer, spectrum, _), rank in zip(self._waiting, ranks, strict=True):
                up, down = (self.tensors[layer.name + suffix] for suffix in layer.suffixes)
                for suffix in layer.suffixes:
                    self.tensors.drop(layer.name + suffix)
                self._put(layer, spectrum, (up[:, :rank], down[:rank]), 0.0)
            self._waiting.clear()
        return self.tensors

    def _rule(self, layer: Layer) -> RankRule:
        is_kernel = any(size > 1 for size in layer.shape[2:])
        if not (is_kernel and self.conv_rank):
            return self.rule
        return RankRule(self.rule.by, self.rule.threshold, self.conv_rank)

    def _put(self, layer: Layer, spectrum: Spectrum, factors: tuple[torch.Tensor, torch.Tensor], excess: float) -> None:
        up, down = factors
        rank = up.shape[1]
        if rank:
            ones = (1,) * (len(layer.shape) - 2)
            shaped = up.reshape(layer.shape[0], rank, *ones), down.reshape(rank, *layer.shape[1:])
            for suffix, factor in zip(layer.suffixes, self._clamped(*shaped), strict=True):
                self.tensors.put(layer.name + suffix, self._rounded(factor))
            if layer.has_alpha:
                self.tensors.put(layer.name + ".alpha", torch.tensor(float(rank)))
        self.report.layers.append(described(layer, spectrum, rank, excess))

    def _rounded(self, factor: torch.Tensor) -> torch.Tensor:
        if self.dtype is None:
            return factor
        rounded, beyond = round_to(factor, self.dtype)
        self.clamped += beyond
        return rounded

    def _clamped(self, up: torch.Tensor, down: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cut both factors at a quantile of their signed values, as kohya's scripts do, which weakens the LoRA."""
        if self.clamp >= 1:
            return up, down
        values = torch.cat((up.flatten(), down.flatten()))
        high = float(values.kthvalue(max(1, round(self.clamp * values.numel()))).values)
        return up.clamp(-high, high), down.clamp(-high, high)


def described(layer: Layer, spectrum: Spectrum, rank: int, excess: float) -> dict[str, Any]:
    """Return what the report says of a layer; `curve` is the energy at a few ranks."""
    sums = spectrum.values.square().cumsum(0) / (spectrum.total or 1.0)
    return {
        "name": layer.name,
        "block": layer.block,
        "module": layer.module,
        "rank": rank,
        "energy": min(1.0, float(sums[rank - 1])) if rank else 0.0,
        "norm": spectrum.total**0.5,
        "curve": [[at, min(1.0, float(sums[at - 1]))] for at in CURVE if at <= len(sums)],
        "excess": excess,
        **({"was": layer.was} if layer.was else {}),
    }


def _matrix(shape: Shape) -> tuple[int, int]:
    rest = 1
    for size in shape[1:]:
        rest *= size
    return shape[0], rest
